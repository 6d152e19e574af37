"""The words of a prompt as people read them, with the tokens of each word.

A placeholder is one word and one token. Any other word may have several tokens. Punctuation between
words belongs to no word.
"""

import re
from dataclasses import dataclass
from typing import Any

from perfusion_core.text.prompt import Placeholder, Prompt

_WORD = re.compile(r"\w+(?:[-'’.]\w+)*")


@dataclass(frozen=True)
class Word:
    """One word of a prompt; `concept` is the name if the word is a placeholder."""

    text: str
    concept: str | None
    positions: tuple[int, ...]  # among the tokens that cross-attention reads


def words_of(tokenizer: Any, prompt: Prompt) -> tuple[Word, ...]:
    """Return a prompt's words in order, with the positions that `tokenization.tokenise` gives them.

    Words beyond the last token that the text encoder reads are left out.
    """
    found: list[Word] = []
    position = 1  # after the begin token
    for part in prompt.segments:
        if isinstance(part, Placeholder):
            found.append(Word(f"<{part.name}>", part.name, (position,)))
            position += 1
            continue
        spans = tokenizer(
            part, add_special_tokens=False, truncation=False, return_offsets_mapping=True
        ).offset_mapping
        for match in _WORD.finditer(part):
            own = tuple(
                position + n
                for n, (begin, end) in enumerate(spans)
                if begin < match.end() and end > match.start()
            )
            if own:
                found.append(Word(match[0], None, own))
        position += len(spans)
    last = tokenizer.model_max_length - 2
    return tuple(word for word in found if word.positions[-1] <= last)

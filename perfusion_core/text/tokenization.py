"""Tokenises prompts with placeholders, and records the positions of the placeholders.

A placeholder takes exactly one position. The token id at a placeholder's position is only a
stand-in, the last token of the superclass. The text encoder gets the concept's own word embedding
instead of this token's (see encoders.py). The text between placeholders is tokenised separately, as
the tokenizer does around added tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perfusion_core.errors import PromptTooLong, SuperclassError
from perfusion_core.text.prompt import Placeholder, Prompt

_WORD_END = "</w>"
_SHOWN_CHARACTERS = 120  # of what is cut: enough to find the place


@dataclass(frozen=True)
class Tokens:
    """One tokenised prompt. `places` lists (position, concept name), in order.

    `written` is the same prompt with superclasses written out; `written` is longer than the prompt
    if a superclass is several tokens. `sources[n]` is the position of token n in `written` (for
    global locking).
    """

    ids: list[int]
    places: tuple[tuple[int, str], ...]
    written: list[int]
    sources: list[int]


def superclass_ids(tokenizer: Any, superclass: str) -> list[int]:
    """Return the token ids of a superclass; raises SuperclassError if no token is usable."""
    ids = list(tokenizer(superclass, add_special_tokens=False).input_ids)
    if not ids or tokenizer.eos_token_id in ids or tokenizer.bos_token_id in ids:
        raise SuperclassError(
            f"The base model has no word for the superclass {superclass!r}: "
            "choose a common noun, such as teddy or dog."
        )
    return ids


def whole_words(tokenizer: Any) -> list[str]:
    """Return the words of a CLIP-like vocabulary that are one token, by token id."""
    vocabulary: Mapping[str, int] = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    words = [token.removesuffix(_WORD_END) for token in tokens if token.endswith(_WORD_END)]
    return [word for word in words if word.isascii() and word.isalpha() and word.islower()]


def tokenise(tokenizer: Any, prompt: Prompt, *, superclasses: Mapping[str, str]) -> Tokens:
    """Tokenise a prompt to the tokenizer's full length, with every placeholder kept.

    Text beyond the last position that the text encoder reads is cut off, as in a plain pipeline.
    Raises PromptTooLong if a placeholder would be cut off; the error names the placeholder.
    """
    ids, places = [tokenizer.bos_token_id], []
    written, sources = [tokenizer.bos_token_id], [0]
    for part in prompt.segments:
        if isinstance(part, Placeholder):
            stand_ins = superclass_ids(tokenizer, superclasses[part.name])
            places.append((len(ids), part.name))
            ids.append(stand_ins[-1])
            written += stand_ins
            sources.append(len(written) - 1)
        else:
            text = tokenizer(part, add_special_tokens=False, truncation=False).input_ids
            ids += text
            sources += range(len(written), len(written) + len(text))
            written += text
    length = tokenizer.model_max_length
    lost = [name for position, name in places if position > length - 2]
    if lost:
        raise PromptTooLong(
            f"The prompt is too long: <{lost[0]}> comes after the {length - 2} tokens that this "
            "base model reads. Shorten the text before it."
        )
    # The ends of both prompts correspond, and so does their padding.
    sources = sources[: length - 1]
    sources += range(len(written), len(written) + length - len(sources))
    return Tokens(
        _filled(tokenizer, ids),
        places=tuple(places),
        written=_filled(tokenizer, written),
        sources=[min(source, length - 1) for source in sources],
    )


def cut_text(tokenizer: Any, prompt: Prompt) -> str:
    """Return the end of the prompt that the text encoder does not read; "" if it reads all.

    The result begins with a whole word: a word counts as cut if the text encoder does not read all
    of its tokens. `tokenise` refuses a prompt whose placeholders would be cut.
    """
    left = tokenizer.model_max_length - 2  # without the begin and end tokens
    for part in prompt.segments:
        if isinstance(part, Placeholder):
            left -= 1
            continue
        spans = tokenizer(
            part, add_special_tokens=False, truncation=False, return_offsets_mapping=True
        ).offset_mapping
        if len(spans) > left:
            begin = spans[max(left, 0)][0]
            while begin > 0 and not part[begin - 1].isspace():
                begin -= 1
            return part[begin:].strip()
        left -= len(spans)
    return ""


def cut_sentence(tokenizer: Any, prompt: Prompt, *, name: str) -> str | None:
    """Return the warning about a prompt that is too long, or None; `name` is its subject."""
    cut = cut_text(tokenizer, prompt)
    if not cut:
        return None
    shown = cut if len(cut) <= _SHOWN_CHARACTERS else f"{cut[:_SHOWN_CHARACTERS].rstrip()} …"
    return (
        f"{name} is longer than the {tokenizer.model_max_length - 2} tokens that this base model "
        f"reads, so these words have no effect: {shown!r}. Shorten it, or move what matters "
        "forward."
    )


def _filled(tokenizer: Any, ids: list[int]) -> list[int]:
    """Return `ids` with the end token, cut or padded to the tokenizer's full length."""
    ids = [*ids[: tokenizer.model_max_length - 1], tokenizer.eos_token_id]
    return ids + [tokenizer.pad_token_id] * (tokenizer.model_max_length - len(ids))

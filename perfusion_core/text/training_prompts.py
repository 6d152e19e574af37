"""The tokenised training prompts of one concept, with the concept's position in each prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from perfusion_core.text.encoders import Replacement
from perfusion_core.text.prompt import Placeholder, Prompt
from perfusion_core.text.tokenization import Tokens, tokenise


@dataclass(frozen=True)
class TrainingPrompts:
    """P prompts; each prompt names the concept once."""

    ids: list[list[list[int]]]  # [text encoder][prompt][position]
    places: list[int]  # (P,): the concept's position in each prompt
    written: list[list[list[int]]]  # the same prompts with the superclass written out
    written_places: list[int]  # (P,): the superclass's last position in each of `written`

    @classmethod
    def of(cls, tokenizers: Sequence[Any], templates: Sequence[str], *, superclass: str) -> Self:
        """Tokenise templates, in which `{}` stands for the concept."""
        tokens = [
            [_tokenise(tokenizer, template, superclass) for template in templates]
            for tokenizer in tokenizers
        ]
        places = [row.places[0][0] for row in tokens[0]]
        return cls(
            ids=[[row.ids for row in rows] for rows in tokens],
            places=places,
            written=[[row.written for row in rows] for rows in tokens],
            written_places=[
                row.sources[place] for row, place in zip(tokens[0], places, strict=True)
            ],
        )

    def rows(self, numbers: Sequence[int]) -> "TrainingPrompts":
        """Return the prompts with these indices."""
        return TrainingPrompts(
            ids=[[rows[k] for k in numbers] for rows in self.ids],
            places=[self.places[k] for k in numbers],
            written=[[rows[k] for k in numbers] for rows in self.written],
            written_places=[self.written_places[k] for k in numbers],
        )

    def replacements(self, embeddings: tuple[Tensor, ...]) -> list[Replacement]:
        """Return replacements that put the concept's word embeddings into each prompt."""
        return [
            Replacement(row=row, position=place, embeddings=embeddings)
            for row, place in enumerate(self.places)
        ]

    def at_concept(self, e: Tensor) -> Tensor:
        """Return the concept's own encodings (P, d) from the encodings of the prompts (P, N, d)."""
        return torch.stack([e[row, place] for row, place in enumerate(self.places)])

    def at_superclass(self, e: Tensor) -> Tensor:
        """Return the superclass's encodings (P, d) from the encodings of `written` (P, N, d).

        If a superclass is several tokens, the encoding of its last token is taken, because only the
        last token attends to the whole superclass.
        """
        return torch.stack([e[row, place] for row, place in enumerate(self.written_places)])


def _tokenise(tokenizer: Any, template: str, superclass: str) -> Tokens:
    before, after = template.split("{}")
    # The superclass also serves as the placeholder's name.
    concept = Placeholder(superclass, None, start=len(before), end=len(before))
    prompt = Prompt(text=template, segments=(before, concept, after))
    return tokenise(tokenizer, prompt, superclasses={superclass: superclass})

"""Prompts with placeholders: `a photo of <teddy> next to <rex:0.9>`.

A placeholder is a concept's name in angle brackets, with an optional strength after a colon. Any
other text in angle brackets is ordinary text, as in a plain pipeline.
"""

import re
from dataclasses import dataclass

from perfusion_core.errors import PromptError

NAME_PATTERN = r"[a-z0-9][a-z0-9-]{0,62}"
_PLACEHOLDER = re.compile(rf"<(?P<name>{NAME_PATTERN})(?::(?P<strength>[^<>]*))?>")


@dataclass(frozen=True)
class Placeholder:
    """One mention of a concept; `start` and `end` are character offsets into the prompt."""

    name: str
    strength: float | None
    start: int
    end: int


@dataclass(frozen=True)
class Prompt:
    """A prompt cut into ordinary text and placeholders, in their order."""

    text: str
    segments: tuple[str | Placeholder, ...]

    @property
    def placeholders(self) -> tuple[Placeholder, ...]:
        """Every mention of a concept, in the prompt's order."""
        return tuple(part for part in self.segments if isinstance(part, Placeholder))

    @property
    def names(self) -> tuple[str, ...]:
        """The concepts mentioned, each once, in order of first mention."""
        return tuple(dict.fromkeys(part.name for part in self.placeholders))

    @property
    def strengths(self) -> dict[str, float]:
        """The strengths written in the prompt, by concept name."""
        return {part.name: part.strength for part in self.placeholders if part.strength is not None}


def parse(text: str) -> Prompt:
    """Cut a prompt into text and placeholders.

    Raises PromptError if a strength is not a number in (0, 1), or if a concept has two different
    strengths: a concept has only one gate.
    """
    segments: list[str | Placeholder] = []
    strengths: dict[str, float] = {}
    position = 0
    for match in _PLACEHOLDER.finditer(text):
        if match.start() > position:
            segments.append(text[position : match.start()])
        name = match["name"]
        strength = _strength(match["strength"], name=name)
        if strength is not None and strengths.setdefault(name, strength) != strength:
            raise PromptError(
                f"<{name}> has two strengths, {strengths[name]:g} and {strength:g}; "
                "a concept has one gate, so write one strength."
            )
        segments.append(Placeholder(name, strength, start=match.start(), end=match.end()))
        position = match.end()
    if position < len(text):
        segments.append(text[position:])
    return Prompt(text=text, segments=tuple(segments))


def _strength(written: str | None, *, name: str) -> float | None:
    if written is None:
        return None
    try:
        strength = float(written)
    except ValueError:
        strength = float("nan")
    if not 0.0 < strength < 1.0:  # also refuses NaN
        raise PromptError(
            f"The strength of <{name}> must be a number between 0 and 1, both excluded, "
            f"such as <{name}:0.9>."
        )
    return strength

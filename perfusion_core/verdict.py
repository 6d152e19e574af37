"""A concept's curve in a word and a few sentences, for whoever trained it. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

from perfusion_core.curve import NARROW, Curve, Point, image_gain, recommended, text_kept

Quality = Literal["good", "weak", "overfit"]

WEAK_GAIN = 0.5
"""Less of the way from the plain superclass to the pictures is nearer to the superclass."""

WEAK_GAIN_OF_ONE = 0.25
"""The same where there is one picture: compared with itself alone, background and all, nobody comes
half-way."""

COLLAPSED_TEXT = 0.5
"""Keeping less of the superclass's text similarity, images follow their prompts no more. Every
concept costs some of it, since it looks like no other of its kind: a quarter is usual."""


@dataclass(frozen=True)
class Verdict:
    """Whether a concept works. `weak`: it is hardly there; `overfit`: nothing else is."""

    quality: Quality
    reasons: tuple[str, ...]  # sentences


def verdict(curve: Curve, *, superclass: str) -> Verdict:
    """Judge a curve at its recommended strength; `superclass` is the word for the sentences.

    A concept that is weak and has lost the text as well is weak: that is where to begin.
    """
    best = recommended(curve)
    weak, overfit = _is_weak(curve, best), _is_overfit(curve, best)
    if not weak and not overfit:
        return Verdict("good", (_praise(curve, best, superclass),))
    reasons = []
    if weak:
        reasons += [
            f"{_at(best)} its images are nearer to a plain {superclass} than to "
            f"the pictures: {_figures(curve, best, superclass)}.",
            "Train it for more steps, or with more pictures that show it large and clearly.",
        ]
    if overfit:
        kept = text_kept(best.similarity.text, superclass=curve.superclass.text)
        reasons += [
            f"{_at(best)} its images keep only {kept:.0%} of how well a plain "
            f"{superclass} follows the prompt: they repeat the pictures.",
            "Train it for fewer steps, or with pictures of different backgrounds, or with masks.",
        ]
    return Verdict("weak" if weak else "overfit", tuple(reasons))


def _is_weak(curve: Curve, best: Point) -> bool:
    gain = image_gain(
        best.similarity.image, superclass=curve.superclass.image, ceiling=curve.ceiling
    )
    return gain < (WEAK_GAIN_OF_ONE if curve.ceiling is None else WEAK_GAIN)


def _is_overfit(curve: Curve, best: Point) -> bool:
    return text_kept(best.similarity.text, superclass=curve.superclass.text) < COLLAPSED_TEXT


def _praise(curve: Curve, best: Point, superclass: str) -> str:
    sentence = f"{_at(best)} its images look like the pictures: {_figures(curve, best, superclass)}"
    if curve.superclass.text > NARROW:
        kept = text_kept(best.similarity.text, superclass=curve.superclass.text)
        sentence += f"; they follow the prompt {kept:.0%} as well as a plain {superclass}"
    return f"{sentence}."


def _at(best: Point) -> str:
    return f"At strength {best.strength:g} (β = {best.beta:.2f})"


def _figures(curve: Curve, best: Point, superclass: str) -> str:
    figures = (
        f"similarity {best.similarity.image:.2f}, where a plain {superclass} has "
        f"{curve.superclass.image:.2f}"
    )
    if curve.ceiling is None:
        return figures
    return f"{figures} and the pictures have {curve.ceiling:.2f} among each other"

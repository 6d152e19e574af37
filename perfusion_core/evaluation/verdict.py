"""The verdict on a concept: one word and a few sentences for its owner. Does not import torch.

People have labelled for some concepts whether a concept's images show the same object as its
training pictures. The base model's calibration contains thresholds that agree with these labels
(calibration.py). Without a matching calibration a concept gets no verdict on its quality, and the
verdict's sentences say why.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from perfusion_core.evaluation.calibration import NOTHING_KNOWN, Calibration
from perfusion_core.evaluation.curve import NARROW, image_gain, present_from, recommended, text_kept
from perfusion_core.evaluation.record import Evaluation
from perfusion_core.strength import beta_from_strength

Quality = Literal["good", "weak", "overfit", "uncalibrated"]

_LOOK = "Look at the images of its curve, and decide yourself."


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The input of a verdict, measured at the recommended strength: plain JSON values."""

    evaluator: str  # fingerprint
    judging: str | None  # None if an earlier release made the curve, without a proof
    strength: float
    count: int  # of the images; 0 if there is only a curve
    image: float
    plain_image: float
    ceiling: float | None
    text: float
    plain_text: float
    present: int  # the number of images in which the concept is present
    text_floor: float = 0.0

    @property
    def alike(self) -> bool:
        """Return whether pictures are more similar to each other than to superclass images.

        If pictures are no more similar to each other than to superclass images, the pictures show
        different things, and the gain has no meaning.
        """
        return self.ceiling is None or self.ceiling - self.plain_image > NARROW

    @property
    def gain(self) -> float:
        """The `image_gain` of the images: 0 for the plain superclass, 1 for the pictures."""
        if not self.alike:
            return 0.0
        return image_gain(self.image, superclass=self.plain_image, ceiling=self.ceiling)

    @property
    def presence(self) -> float:
        """The share of the images in which the concept is present."""
        return self.present / self.count if self.count else 0.0

    @property
    def kept(self) -> float:
        """The `text_kept` of the images: 0 for the text floor, 1 for the plain superclass."""
        return text_kept(self.text, superclass=self.plain_text, floor=self.text_floor)

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain JSON, for `read_figures`.

        A text floor of 0 is left out, because the previous release reads only figures without one.
        """
        return {k: v for k, v in asdict(self).items() if k != "text_floor" or v != 0}


@dataclass(frozen=True)
class Verdict:
    """A concept's quality. `weak`: images hardly show it; `overfit`: images ignore prompts."""

    quality: Quality
    reasons: tuple[str, ...]  # sentences


def figures_of(found: Evaluation) -> Figures | None:
    """Return the figures of an evaluated concept; None if the concept has no curve."""
    curve = found.curve
    if curve is None:
        return None
    best, proof = recommended(curve), curve.proof
    plain, own = curve.superclass, best.similarity
    windows: tuple[float, ...] = ()
    if proof is not None:
        plain, own, windows = proof.superclass, proof.similarity, proof.windows
    return Figures(
        evaluator=found.evaluator.fingerprint,
        judging=None if proof is None else proof.judging,
        strength=best.strength,
        count=len(windows),
        image=own.image,
        plain_image=plain.image,
        ceiling=curve.ceiling,
        text=own.text,
        plain_text=plain.text,
        present=sum(window >= present_from(curve) for window in windows),
        text_floor=curve.text_floor,
    )


def read_figures(value: Mapping[str, Any] | None) -> Figures | None:
    """Read the JSON of `to_json`; return None for any other value, such as older JSON."""
    names = {field.name for field in fields(Figures)}
    if value is None or set(value) | {"text_floor"} != names:
        return None
    return Figures(**value)


def verdict(
    figures: Figures | None, *, superclass: str, base_model: str, calibration: Calibration | None
) -> Verdict:
    """Return the verdict on figures of a concept; `base_model` is a fingerprint.

    The sentences use the word `superclass`; `calibration` is the calibration of the base model in
    use. A concept that is both weak and overfit is called weak, because weakness is the first thing
    to mend.
    """
    why = _why_not(figures, base_model=base_model, calibration=calibration)
    if figures is None:
        return Verdict("uncalibrated", why)
    if why or calibration is None:
        return Verdict("uncalibrated", (*why, _compared(figures, superclass), _LOOK))
    least = calibration.thresholds
    mixed = not figures.alike
    unlike = not mixed and figures.gain < least.gain
    absent, overfit = figures.presence < least.presence, figures.kept < least.kept
    reasons = []
    if mixed:
        reasons.append(
            f"Its pictures have similarity {figures.ceiling:.2f} to each other and "
            f"{figures.plain_image:.2f} to a plain {superclass}: they seem to show different "
            "things."
        )
    if unlike:
        known = (
            f"people know it again from {least.gain:.0%} on"
            if least.gain < NOTHING_KNOWN
            else "people knew none of the concepts again that they looked at on this base model, "
            "which may be too small for it"
        )
        reasons.append(
            f"{_at(figures)} its images come only {figures.gain:.0%} of the way from a plain "
            f"{superclass} to the pictures; {known}."
        )
    if absent:
        reasons.append(
            f"{_at(figures)} {figures.present} of {figures.count} images show it; a good concept "
            f"is in at least {_count_of(least.presence, figures.count)}."
        )
    if mixed or unlike or absent:
        reasons.append(
            "Teach it again for more steps, or with more pictures that show it large and clearly, "
            "of nothing but itself."
        )
    if overfit:
        reasons += [
            f"{_at(figures)} its images keep only {figures.kept:.0%} of how well a plain "
            f"{superclass} follows the prompt: they repeat the pictures.",
            "Teach it again for fewer steps, or with pictures of different backgrounds, or with "
            "masks.",
        ]
    if not reasons:
        return Verdict("good", (f"{_compared(figures, superclass)}",))
    return Verdict("weak" if mixed or unlike or absent else "overfit", tuple(reasons))


def _why_not(
    figures: Figures | None, *, base_model: str, calibration: Calibration | None
) -> tuple[str, ...]:
    """Return a sentence that says why these figures cannot be rated; empty if they can be."""
    if figures is not None and figures.ceiling is None:
        return (
            "It has one picture, and nobody has compared the figures of such concepts with what "
            "people see: teach it with more pictures for a verdict.",
        )
    if calibration is None:
        return (
            "Nobody has compared such figures with what people see on this base model, so they "
            "make no verdict.",
        )
    if base_model != calibration.base_model:
        return (
            "It was judged on another base model than the one that is served here: teach it again "
            "for a verdict.",
        )
    if figures is None or figures.judging != calibration.judging:
        return (
            "It was judged by an earlier release, in other scenes or in another way: teach it "
            "again for a verdict.",
        )
    if figures.evaluator != calibration.evaluator:
        return (
            "Another evaluator judged it than the one whose figures were compared with what people "
            "see: teach it again here for a verdict.",
        )
    return ()


def _compared(figures: Figures, superclass: str) -> str:
    sentence = (
        f"{_at(figures)} its images have similarity {figures.image:.2f} to the pictures, where a "
        f"plain {superclass} has {figures.plain_image:.2f}"
    )
    if figures.ceiling is not None:
        sentence += f" and the pictures have {figures.ceiling:.2f} among each other"
    if figures.count:
        sentence += f"; {figures.present} of {figures.count} images show it"
    if figures.plain_text - figures.text_floor > NARROW:
        sentence += f"; they follow the prompt {figures.kept:.0%} as well as a plain {superclass}"
    return f"{sentence}."


def _count_of(share: float, count: int) -> int:
    """Return the least number of images that is at least `share` of `count`."""
    return next(k for k in range(count + 1) if k >= count or k / count >= share)


def _at(figures: Figures) -> str:
    return f"At strength {figures.strength:g} (β = {beta_from_strength(figures.strength):.2f})"

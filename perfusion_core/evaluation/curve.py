"""Does a concept work? Its operating curve, and the strength to use it at. Imports no torch.

A curve holds both similarities of METHOD 7 over a sweep of strengths, in scenes that no training
prompt names, and what they are compared with: the plain superclass in the same scenes and seeds as
the floor, and the training pictures among each other as the ceiling. Either similarity alone is
easy to win: copies of a picture win the one, the plain superclass wins the other.
"""

from dataclasses import dataclass
from statistics import fmean

from perfusion_core.strength import STRENGTH_DIGITS, beta_from_strength, strength_from_beta

BETAS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""The biases β that a curve is made of, with local locking: METHOD 6's range, and what lies on
either side of it. The trade-off is spaced evenly in β."""

STRENGTHS = tuple(round(strength_from_beta(beta), STRENGTH_DIGITS) for beta in BETAS)
"""The same as strengths, as a curve's points hold them; images are drawn at exactly these."""

NARROW = 0.02
"""Similarities nearer to each other than this are the same: a difference of one picture's noise."""

PRESENT_GAIN = 0.5
"""From here on, as a share of the way from the plain superclass to the concept, it is present: the
middle, since the best of many windows lifts the figures of both (docs/decisions/0006)."""


@dataclass(frozen=True)
class Similarity:
    """Mean cosines of some images: to the training pictures, and to their prompts."""

    image: float
    text: float


@dataclass(frozen=True)
class Point:
    """What was measured at one strength."""

    strength: float
    similarity: Similarity

    @property
    def beta(self) -> float:
        """The bias β of this strength, at the default temperature."""
        return beta_from_strength(self.strength)


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What was measured on some more images at the recommended strength, always the same trials.

    The verdict is made of it (trials.PROOF): half of the images are in places, half are plain.
    """

    judging: str  # which version of the judging made it: trials.judging_of
    images: tuple[float, ...]  # each image's mean cosine to the training pictures
    windows: tuple[float, ...]  # the same of each image's best window, see presence.py
    text: float  # the images' mean cosine to their prompts
    superclass: Similarity  # of the plain superclass, by the same trials

    @property
    def similarity(self) -> Similarity:
        """The concept's, over all of the images."""
        return Similarity(fmean(self.images), self.text)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """An operating curve. `prompts` have {} in the concept's place; strengths rise."""

    prompts: tuple[str, ...]
    superclass: Similarity
    ceiling: float | None  # None where there is one picture only
    points: tuple[Point, ...]
    proof: Proof | None = None  # None where an earlier release made the curve


def image_gain(image: float, *, superclass: float, ceiling: float | None) -> float:
    """How far an image similarity has come from the plain superclass (0) to the pictures (1).

    More than the pictures have among each other counts as 1: it is no better, it is a copy. One
    picture alone is compared with itself, so that its ceiling is 1.
    """
    top = 1.0 if ceiling is None else ceiling
    return _share((image - superclass) / max(top - superclass, NARROW))


def text_kept(text: float, *, superclass: float) -> float:
    """How much of the plain superclass's text similarity is left, at most 1.

    Where even the superclass has none, the evaluator does not understand the prompts: 1.
    """
    return _share(text / superclass) if superclass > NARROW else 1.0


def balance(measured: Similarity, *, superclass: Similarity, ceiling: float | None) -> float:
    """One number for both similarities: the harmonic mean of image_gain and text_kept, 0 to 1.

    The harmonic mean lies near the smaller one, so that nothing is won by either alone.
    """
    gain = image_gain(measured.image, superclass=superclass.image, ceiling=ceiling)
    kept = text_kept(measured.text, superclass=superclass.text)
    return 2 * gain * kept / (gain + kept) if gain + kept > 0 else 0.0


def recommended(curve: Curve) -> Point:
    """The knee of a curve: the point of the best `balance`.

    Of equals the one of the higher image similarity, which decides where no point gains anything
    over the superclass, and then the one of the lower strength, which leaves more to the prompt.
    """
    return max(
        curve.points,
        key=lambda point: (
            balance(point.similarity, superclass=curve.superclass, ceiling=curve.ceiling),
            point.similarity.image,
            -point.strength,
        ),
    )


def recommended_strength(curve: Curve) -> float:
    """The strength of the `recommended` point."""
    return recommended(curve).strength


def floor_and_own(curve: Curve) -> tuple[float, float]:
    """The image similarities of the plain superclass and of the concept, where it is recommended.

    A proof has more images than a point of the curve, so that its figures are less noisy.
    """
    if curve.proof is not None:
        return curve.proof.superclass.image, curve.proof.similarity.image
    return curve.superclass.image, recommended(curve).similarity.image


def present_from(curve: Curve) -> float:
    """The least similarity of a present concept: PRESENT_GAIN of the way from floor to itself."""
    floor, own = floor_and_own(curve)
    return floor + PRESENT_GAIN * (own - floor)


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))

"""The operating curve of a concept, and the strength that it recommends. Does not import torch.

A curve contains both similarities of METHOD 7 over a sweep of strengths, in scenes that no training
prompt names. The curve also contains bounds of the similarities. The floor is the plain
superclass's similarities in the same scenes and seeds. The ceiling is the similarity of the
training pictures to each other. The text floor is the text similarity of images that ignore their
prompts. One similarity alone proves little: copies of a picture have the highest image similarity,
the plain superclass has the highest text similarity.
"""

from dataclasses import dataclass
from statistics import fmean

from perfusion_core.strength import STRENGTH_DIGITS, beta_from_strength, strength_from_beta

BETAS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""The biases β of a curve's points, with local locking: METHOD 6's range and some values on either
side. The trade-off between the two similarities changes evenly with β."""

STRENGTHS = tuple(round(strength_from_beta(beta), STRENGTH_DIGITS) for beta in BETAS)
"""The same biases as strengths. A curve's points store these strengths, and images are drawn at
exactly these strengths."""

NARROW = 0.02
"""Two similarities that differ by less than this count as equal: the noise of one picture makes
such a difference."""

PRESENT_GAIN = 0.5
"""The least gain of a present concept, as a share of the distance from the plain superclass's
similarity (0) to the concept's own (1). The middle is chosen because taking the best of many
windows raises both similarities (docs/decisions/0006)."""


@dataclass(frozen=True)
class Similarity:
    """Mean cosines of some images to the training pictures, and of the images to their prompts."""

    image: float
    text: float


@dataclass(frozen=True)
class Point:
    """The measurements at one strength."""

    strength: float
    similarity: Similarity

    @property
    def beta(self) -> float:
        """The bias β of this strength, at the default temperature."""
        return beta_from_strength(self.strength)


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The measurements on further images at the recommended strength, for fixed eval prompts.

    The verdict is computed from the proof. Half of the proof's images show the concept in a scene,
    the other half have plain prompts (eval_prompts.PROOF).
    """

    judging: str  # version of the judging: eval_prompts.judging_of
    images: tuple[float, ...]  # each image's mean cosine to the training pictures
    windows: tuple[float, ...]  # mean cosine of each image's best window, see presence.py
    text: float  # the images' mean cosine to their prompts
    superclass: Similarity  # of the plain superclass, for the same eval prompts

    @property
    def similarity(self) -> Similarity:
        """The concept's mean similarity over all images of the proof."""
        return Similarity(fmean(self.images), self.text)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """An operating curve. `prompts` have {} in the concept's place; strengths rise."""

    prompts: tuple[str, ...]
    superclass: Similarity
    ceiling: float | None  # None if there is only one picture
    points: tuple[Point, ...]
    proof: Proof | None = None  # None if an earlier release made the curve
    text_floor: float = 0.0  # mean cosine of plain images to other scenes; 0 if not measured


def image_gain(image: float, *, superclass: float, ceiling: float | None) -> float:
    """Return a rescaled image similarity: 0 is the plain superclass's, 1 is the pictures'.

    A similarity above the ceiling counts as 1, because images that are more similar to the pictures
    than the pictures are to each other are copies, not better images. A single picture is compared
    with itself, so its ceiling is 1.
    """
    top = 1.0 if ceiling is None else ceiling
    return _share((image - superclass) / max(top - superclass, NARROW))


def text_kept(text: float, *, superclass: float, floor: float = 0.0) -> float:
    """Return a rescaled text similarity: 0 is the text floor, 1 is the plain superclass's.

    A CLIP model gives even a wrong prompt much of the right prompt's cosine, so without the floor
    images that ignore their prompts would keep much. The result is 1 if not even the superclass is
    above the floor, because the evaluator then does not understand the prompts.
    """
    room = superclass - floor
    return _share((text - floor) / room) if room > NARROW else 1.0


def balance(
    measured: Similarity,
    *,
    superclass: Similarity,
    ceiling: float | None,
    text_floor: float = 0.0,
) -> float:
    """Return the harmonic mean of image_gain and text_kept, from 0 to 1.

    The harmonic mean is near the smaller value, so one high similarity alone gives no high balance.
    """
    gain = image_gain(measured.image, superclass=superclass.image, ceiling=ceiling)
    kept = text_kept(measured.text, superclass=superclass.text, floor=text_floor)
    return 2 * gain * kept / (gain + kept) if gain + kept > 0 else 0.0


def balance_at(point: Point, curve: Curve) -> float:
    """Return the `balance` of a point of the curve."""
    return balance(
        point.similarity,
        superclass=curve.superclass,
        ceiling=curve.ceiling,
        text_floor=curve.text_floor,
    )


def recommended(curve: Curve) -> Point:
    """Return the knee of a curve: the point with the best `balance`.

    Among points of equal balance, the point with the higher image similarity wins. This rule
    decides if no point gains image similarity over the superclass. Among points that are still
    equal, the lower strength wins, because images at a lower strength follow the prompt more
    closely.
    """
    return max(
        curve.points,
        key=lambda point: (balance_at(point, curve), point.similarity.image, -point.strength),
    )


def recommended_strength(curve: Curve) -> float:
    """Return the strength of the `recommended` point."""
    return recommended(curve).strength


def floor_and_own(curve: Curve) -> tuple[float, float]:
    """Return the image similarities of the superclass and the concept at the recommended strength.

    The proof's similarities are preferred if there is a proof. A proof has more images than a point
    of the curve, so the proof's similarities are less noisy.
    """
    if curve.proof is not None:
        return curve.proof.superclass.image, curve.proof.similarity.image
    return curve.superclass.image, recommended(curve).similarity.image


def present_from(curve: Curve) -> float:
    """Return the threshold of presence: at PRESENT_GAIN between floor (0) and concept (1)."""
    floor, own = floor_and_own(curve)
    return floor + PRESENT_GAIN * (own - floor)


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))

"""Detects concepts in images: compares an image's most similar window with the concept's curve.

A concept may fill only a corner of a composed image. So windows of several sizes are compared with
the reference of the concept's pictures, and the most similar window counts. Each concept's
threshold lies between two image similarities of the concept's curve: the plain superclass's and the
concept's.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from perfusion_core.callbacks import RunOnDevice
from perfusion_core.concept import Concept
from perfusion_core.evaluation.curve import NARROW, floor_and_own, present_from
from perfusion_core.evaluators.similarity import Evaluator

SCALES = (1.0, 0.75, 0.5)
"""Sides of the windows, as shares of the image's shorter side."""

_MOST_PLACES = 5  # along each side; in a very wide image windows lie further apart


@dataclass(frozen=True)
class Presence:
    """The similarity of the best window, and whether it reaches the concept's threshold."""

    score: float
    present: bool


Measured = dict[str, Presence]
"""Presences by concept name, without the concepts that are not measurable."""


def measure(
    evaluator: Evaluator,
    images: Sequence[Image.Image],
    *,
    concepts: Mapping[str, Concept],
    run_on_device: RunOnDevice,
) -> list[Measured] | None:
    """Measure concepts in each image; return None if the evaluator can measure no concept."""
    measured = [run_on_device(partial(presences, evaluator, image, concepts)) for image in images]
    return measured if any(measured) else None


def presences(
    evaluator: Evaluator, image: Image.Image, concepts: Mapping[str, Concept]
) -> Measured:
    """Return the presence of each measurable concept, by the concept's key.

    A concept is measurable if this evaluator made the concept's curve, and if the curve
    distinguishes the concept from its superclass. Similarities from different evaluators cannot be
    compared.
    """
    told = {key: concept for key, concept in concepts.items() if is_measurable(evaluator, concept)}
    if not told:
        return {}
    seen = _embed_windows(evaluator, image)
    found = {}
    for key, concept in told.items():
        assert concept.reference is not None and concept.curve is not None
        score = _best(seen, concept.reference)
        found[key] = Presence(score, score >= present_from(concept.curve))
    return found


def best_window(
    evaluator: Evaluator, image: Image.Image, reference: npt.NDArray[np.float32]
) -> float:
    """Return the similarity of an image's best window to a reference (p,), see `Presence.score`."""
    return _best(_embed_windows(evaluator, image), reference)


def is_measurable(evaluator: Evaluator, concept: Concept) -> bool:
    """Return whether this evaluator can measure the presence of the concept in an image."""
    evaluation = concept.evaluation
    if evaluation is None or evaluation.curve is None:
        return False
    if evaluation.evaluator.fingerprint != evaluator.ref.fingerprint:
        return False
    floor, own = floor_and_own(evaluation.curve)
    return own - floor > NARROW


def windows(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield square boxes (left, upper, right, lower) of an image; neighbours overlap by half."""
    for scale in SCALES:
        side = max(1, round(scale * min(width, height)))
        for top in _places(height, side):
            for left in _places(width, side):
                yield left, top, left + side, top + side


def _embed_windows(evaluator: Evaluator, image: Image.Image) -> Tensor:
    return evaluator.embed_images([image.crop(box) for box in windows(*image.size)])  # (w, p)


def _best(seen: Tensor, reference: npt.NDArray[np.float32]) -> float:
    # This is the mean cosine to the pictures, like the figures of the curve.
    return float((seen @ torch.as_tensor(reference).to(seen)).max())


def _places(length: int, side: int) -> list[int]:
    """Return the offsets of windows along a side, evenly spaced from one end to the other."""
    room = length - side
    count = min(_MOST_PLACES, -(-2 * room // side) + 1)
    return [round(room * k / (count - 1)) for k in range(count)] if count > 1 else [0]

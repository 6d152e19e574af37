"""Is a concept in an image? The most similar window of the image against its own curve.

A concept may take a corner of a composed image, so windows of several sizes are compared with the
reference of its pictures, and the best one counts. What counts as present is the concept's own
matter: its curve tells how similar a plain superclass is, and how similar it is itself.
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

_MOST_PLACES = 5  # along each side: a very wide image has windows further apart


@dataclass(frozen=True)
class Presence:
    """The similarity of the best window, and whether that is enough for this concept."""

    score: float
    present: bool


Measured = dict[str, Presence]
"""By the concepts' names; without those that cannot be told."""


def measure(
    evaluator: Evaluator,
    images: Sequence[Image.Image],
    *,
    concepts: Mapping[str, Concept],
    run_on_device: RunOnDevice,
) -> list[Measured] | None:
    """Say what is in each image; None if the evaluator can tell for none of the concepts."""
    measured = [run_on_device(partial(presences, evaluator, image, concepts)) for image in images]
    return measured if any(measured) else None


def presences(
    evaluator: Evaluator, image: Image.Image, concepts: Mapping[str, Concept]
) -> Measured:
    """How present each concept is, by its key; those that cannot be told are left out.

    A concept can be told where this evaluator has made its curve (figures of another one do not
    compare), and where the curve sets it apart from its superclass.
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
    """The similarity of the image's best window to a reference (p,), as `Presence.score` has it."""
    return _best(_embed_windows(evaluator, image), reference)


def is_measurable(evaluator: Evaluator, concept: Concept) -> bool:
    """Whether this evaluator can tell if the concept is in an image."""
    evaluation = concept.evaluation
    if evaluation is None or evaluation.curve is None:
        return False
    if evaluation.evaluator.fingerprint != evaluator.ref.fingerprint:
        return False
    floor, own = floor_and_own(evaluation.curve)
    return own - floor > NARROW


def windows(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """Square boxes (left, upper, right, lower) over an image, each half over the next one."""
    for scale in SCALES:
        side = max(1, round(scale * min(width, height)))
        for top in _places(height, side):
            for left in _places(width, side):
                yield left, top, left + side, top + side


def _embed_windows(evaluator: Evaluator, image: Image.Image) -> Tensor:
    return evaluator.embed_images([image.crop(box) for box in windows(*image.size)])  # (w, p)


def _best(seen: Tensor, reference: npt.NDArray[np.float32]) -> float:
    # The mean cosine to the pictures, as the curve's own figures are.
    return float((seen @ torch.as_tensor(reference).to(seen)).max())


def _places(length: int, side: int) -> list[int]:
    """Where windows begin along a side: evenly, from one end to the other."""
    room = length - side
    count = min(_MOST_PLACES, -(-2 * room // side) + 1)
    return [round(room * k / (count - 1)) for k in range(count)] if count > 1 else [0]

"""Measures which concepts of a prompt appear in its images, and warns of absent concepts.

An image is useful without its presence figures, so a failure in this module loses only these
figures.
"""

from collections.abc import Sequence
from typing import Any

import structlog
from PIL import Image

from perfusion_core.callbacks import RunOnDevice
from perfusion_core.concept import Concept
from perfusion_core.errors import Interrupted
from perfusion_core.evaluators import presence as core
from perfusion_core.evaluators.presence import Measured
from perfusion_core.memory import free_memory, is_out_of_memory
from perfusion_core.sampling.sampler import ImageRequest
from service.errors import problem
from service.jobs.views import PresenceView
from worker.context import WorkerContext

_log = structlog.get_logger("perfusion.worker")


class Measures:
    """The presences in the images of one job, measured portion by portion."""

    def __init__(self, context: WorkerContext, *, run_on_device: RunOnDevice) -> None:
        self._context = context
        self._run_on_device = run_on_device
        self._found: list[Measured] | None = []  # None after a failure

    def add(self, requests: Sequence[ImageRequest], *, images: Sequence[Image.Image]) -> None:
        """Measure images, each of the request in its place; after a failure do nothing."""
        if self._found is None:
            return
        out_of_memory = False
        try:
            for request, image in zip(requests, images, strict=True):
                self._found.append(self._measured(request, image))
        except Interrupted:
            raise
        except Exception as error:
            self._found = None
            out_of_memory = is_out_of_memory(error)
            _log.warning(
                "generation.presence_not_measured", error=type(error).__name__, exc_info=True
            )
        if out_of_memory:
            # Memory is freed after the handler, because the error refers to the frames that hold
            # the memory.
            free_memory()

    def of_images(self) -> list[Measured] | None:
        """Return the concepts' presences in each image; None if no concept can be measured."""
        return self._found if self._found and any(self._found) else None

    def _measured(self, request: ImageRequest, image: Image.Image) -> Measured:
        judged = _judged(request)
        evaluator = self._context.evaluator if judged else None
        if evaluator is None:
            return {}
        found = core.measure(evaluator, [image], concepts=judged, run_on_device=self._run_on_device)
        return found[0] if found else {}


def views_of(measured: Measured, *, concept_ids: dict[str, str]) -> tuple[PresenceView, ...]:
    """Return the presences in an image as its row stores them."""
    return tuple(
        PresenceView(
            concept_id=concept_ids[name],
            name=name,
            score=round(found.score, 4),
            present=found.present,
        )
        for name, found in measured.items()
    )


def warnings(
    measured: Sequence[Measured] | None, *, concept_ids: dict[str, str]
) -> list[dict[str, Any]]:
    """Return a warning for each concept that is present in no image."""
    if not measured:
        return []
    found: dict[str, list[bool]] = {}
    for image in measured:
        for name, presence in image.items():
            found.setdefault(name, []).append(presence.present)
    return [
        _warning(name, image_count=len(present), concept_id=concept_ids[name])
        for name, present in found.items()
        if not any(present)
    ]


def _judged(request: ImageRequest) -> dict[str, Concept]:
    return {
        name: use.concept for name, use in request.concepts.items() if use.concept.curve is not None
    }


def _warning(name: str, *, image_count: int, concept_id: str) -> dict[str, Any]:
    nowhere = "The image does not show" if image_count == 1 else "None of the images shows"
    sentence = (
        f"{nowhere} <{name}>: no part is similar enough to its pictures. Raise its strength, name "
        "it earlier in the prompt or next to fewer others, or try other seeds."
    )
    return {
        **problem("concept-vanished", sentence),
        "concepts": [{"id": concept_id, "name": name}],
    }

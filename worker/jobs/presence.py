"""Measures which concepts of a prompt appear in its images, and warns of absent concepts.

An image is useful without its presence figures, so a failure in this module loses only these
figures.
"""

from collections.abc import Sequence
from typing import Any

import structlog
from PIL import Image

from perfusion_core.callbacks import RunOnDevice
from perfusion_core.errors import Interrupted
from perfusion_core.evaluators import presence as core
from perfusion_core.evaluators.presence import Measured
from perfusion_core.memory import free_memory, is_out_of_memory
from perfusion_core.sampling.sampler import ImageRequest
from service.errors import problem
from worker.context import WorkerContext

_log = structlog.get_logger("perfusion.worker")


def measure(
    context: WorkerContext,
    request: ImageRequest,
    *,
    images: Sequence[Image.Image],
    run_on_device: RunOnDevice,
) -> list[Measured] | None:
    """Return the concepts' presences in each image; None if no concept can be measured."""
    judged = {
        name: use.concept for name, use in request.concepts.items() if use.concept.curve is not None
    }
    evaluator = context.evaluator if judged else None
    if evaluator is None:
        return None
    try:
        return core.measure(evaluator, images, concepts=judged, run_on_device=run_on_device)
    except Interrupted:
        raise
    except Exception as error:
        out_of_memory = is_out_of_memory(error)
        _log.warning("generation.presence_not_measured", error=type(error).__name__, exc_info=True)
    if out_of_memory:
        # Memory is freed after the handler, because the error refers to the frames that hold the
        # memory.
        free_memory()
    return None


def warnings(
    measured: Sequence[Measured] | None, *, concept_ids: dict[str, str]
) -> list[dict[str, Any]]:
    """Return a warning for each concept that is present in no image."""
    if not measured:
        return []
    return [
        _warning(name, image_count=len(measured), concept_id=concept_ids[name])
        for name in measured[0]
        if not any(image[name].present for image in measured)
    ]


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

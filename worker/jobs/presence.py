"""Which concepts of a prompt are to be seen in its images, and a warning for those in none.

An image is worth having without this: whatever goes wrong here costs the figures and nothing else.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import structlog
from PIL import Image

from perfusion_core.base_model import BaseModel
from perfusion_core.evaluators.presence import Presence, presences
from perfusion_core.sampling.sampler import ImageRequest
from service.errors import problem
from worker.engine.device import RunOnDevice, free_memory, is_out_of_memory
from worker.errors import Interrupted
from worker.models.evaluators import Evaluators

Measured = dict[str, Presence]
"""By the concepts' names; without those that cannot be told."""

_log = structlog.get_logger("perfusion.worker")


def measure(
    evaluators: Evaluators | None,
    base: BaseModel,
    *,
    run_on_device: RunOnDevice,
    request: ImageRequest,
    images: Sequence[Image.Image],
) -> list[Measured] | None:
    """Return who is in each image; None where no evaluator can tell for any of the concepts."""
    judged = {
        name: use.concept for name, use in request.concepts.items() if use.concept.curve is not None
    }
    if not judged or evaluators is None:
        return None
    try:
        evaluator = evaluators.beside(base)
        if evaluator is None:
            return None
        measured = [run_on_device(partial(presences, evaluator, image, judged)) for image in images]
    except Interrupted:
        raise
    except Exception as error:
        out_of_memory = is_out_of_memory(error)
        _log.warning("generation.presence_not_measured", error=type(error).__name__, exc_info=True)
    else:
        return measured if any(measured) else None
    if out_of_memory:
        # Only here, where the error is gone, and with it the frames that hold the memory.
        free_memory()
    return None


def warnings(
    measured: Sequence[Measured] | None, *, concept_ids: dict[str, str]
) -> list[dict[str, Any]]:
    """Return a warning for each concept that is in none of the images."""
    if not measured:
        return []
    return [
        _warning(name, image_count=len(measured), concept_id=concept_ids[name])
        for name in measured[0]
        if not any(one[name].present for one in measured)
    ]


def _warning(name: str, *, image_count: int, concept_id: str) -> dict[str, Any]:
    nowhere = "The image does not show" if image_count == 1 else "None of the images shows"
    sentence = (
        f"{nowhere} <{name}>: no part is similar enough to its pictures. Raise its strength, name "
        "it earlier in the prompt or beside fewer others, or try other seeds."
    )
    return {
        **problem("concept-vanished", sentence),
        "concepts": [{"id": concept_id, "name": name}],
    }

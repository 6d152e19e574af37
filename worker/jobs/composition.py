"""Warnings about a composition before it is sampled: concepts that may blend."""

from itertools import starmap
from typing import Any

import torch

from perfusion_core.base_model import BaseModel
from perfusion_core.callbacks import RunOnDevice
from perfusion_core.rank_one import BLENDING_COSINE, blending_pairs
from perfusion_core.sampling.sampler import ImageRequest
from service.errors import problem


def warnings(
    base: BaseModel,
    request: ImageRequest,
    run_on_device: RunOnDevice,
    *,
    concept_ids: dict[str, str],
) -> list[dict[str, Any]]:
    """Return a warning for each pair of concepts that are so similar that they may blend.

    The check only compares the concepts' target inputs, so it costs a small solve and no sampling.
    """
    names = list(request.concepts)
    if len(names) < 2:
        return []

    def solve() -> list[tuple[int, int, float]]:
        i = torch.stack([torch.as_tensor(request.concepts[name].concept.i_star) for name in names])
        return blending_pairs(i, base.covariance.metric)

    def warning(j: int, k: int, cosine: float) -> dict[str, Any]:
        first, second = names[j], names[k]
        sentence = (
            f"<{first}> and <{second}> lie close together in this base model (overlap "
            f"{cosine:.2f}; above {BLENDING_COSINE:g} concepts mix), so each may take on features "
            "of the other. Lower the strength of one, generate them in two images, or teach one of "
            "them again with another superclass."
        )
        return {
            **problem("concepts-may-blend", sentence),
            "concepts": [{"id": concept_ids[name], "name": name} for name in (first, second)],
        }

    return list(starmap(warning, run_on_device(solve)))

"""What a training step shows the U-Net and asks of it, beside Keys and Values."""

from typing import Any

import torch
from torch import Tensor


def wanted_prediction(scheduler: Any, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """What the U-Net should predict for noised latents: the noise, the velocity or the sample."""
    match scheduler.config.prediction_type:
        case "v_prediction":
            velocity: Tensor = scheduler.get_velocity(latents, noise, t)
            return velocity
        case "sample":
            return latents
        case _:
            return noise


def size_conditions(
    pooled: Tensor | None, *, side: int, dtype: torch.dtype
) -> dict[str, Tensor] | None:
    """SDXL's extra conditions of uncropped squares: pooled embedding, sizes; None elsewhere."""
    if pooled is None:
        return None
    sizes = torch.tensor([[side, side, 0, 0, side, side]], device=pooled.device)
    return {"text_embeds": pooled.to(dtype), "time_ids": sizes.expand(len(pooled), -1).to(dtype)}

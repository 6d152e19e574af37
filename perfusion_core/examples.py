"""The training pictures as the U-Net meets them: latents and soft masks, computed once.

Only cross-attention's inputs depend on the concept, so nothing here changes while it is learned.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from perfusion_core.config import TrainConfig
from perfusion_core.images import to_pixels
from perfusion_core.masks import to_soft_mask

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel


@dataclass(frozen=True)
class Examples:
    """The training pictures and their mirror images, encoded once."""

    latents: Tensor  # (M, c, h, w)
    masks: Tensor  # (M, 1, h, w), maximum 1 in each
    digest: str  # identifies the pictures in a saved state


@torch.no_grad()
def encode_pictures(
    base: "BaseModel",
    pictures: Sequence[Image.Image],
    masks: Sequence[Image.Image | None],
    config: TrainConfig,
) -> Examples:
    """Encode pictures and their masks (None: uniform), and their mirror images where asked."""
    side = config.resolution or base.default_resolution
    pixels = torch.stack([to_pixels(picture, side=side) for picture in pictures])
    M = torch.stack(
        [to_soft_mask(mask, side=side, latent_side=side // base.vae_factor) for mask in masks]
    )
    digest = hashlib.sha256(pixels.numpy().tobytes() + M.numpy().tobytes()).hexdigest()
    if config.flip:
        pixels, M = torch.cat([pixels, pixels.flip(-1)]), torch.cat([M, M.flip(-1)])
    latents = torch.cat(
        [base.vae.encode(one[None].to(base.device)).latent_dist.mode() for one in pixels]
    )
    shift = base.vae.config.shift_factor or 0.0
    return Examples(
        latents=(latents - shift) * base.vae.config.scaling_factor,
        masks=M.to(base.device),
        digest=digest,
    )

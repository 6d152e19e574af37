"""The training pictures as inputs of the U-Net: latents and soft masks, computed once.

Only cross-attention's inputs depend on the concept, so latents and masks stay fixed during
training.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from perfusion_core.callbacks import RunOnDevice, run_at_once
from perfusion_core.config import TrainConfig
from perfusion_core.imaging.pixels import to_pixels
from perfusion_core.training.masks import to_soft_mask

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel


@dataclass(frozen=True)
class Examples:
    """The training pictures and their mirror images, encoded once."""

    latents: Tensor  # (M, c, h, w)
    masks: Tensor  # (M, 1, h, w), maximum 1 in each
    digest: str  # identifies the pictures in a saved state


def encode_pictures(
    base: "BaseModel",
    pictures: Sequence[Image.Image],
    masks: Sequence[Image.Image | None],
    config: TrainConfig,
    *,
    found: Sequence[bool],
    run_on_device: RunOnDevice = run_at_once,
) -> Examples:
    """Encode pictures and their masks (None: uniform), with mirror images if the config has `flip`.

    `found` says which masks come from a segmenter. The bits of a segmenter's mask depend on the
    segmenter's device, so the digest excludes the masks of a segmenter. Each picture, with its
    mirror image, is a separate call of `run_on_device`.
    """
    side = config.resolution or base.default_resolution
    pixels, M, digest = run_on_device(
        lambda: _prepare(base, pictures, masks, config, found=found, side=side)
    )
    count = len(pictures)
    encoded = [run_on_device(partial(_encode, base, pixels[k::count])) for k in range(count)]

    def gather() -> Examples:
        latents = torch.stack(encoded, dim=1).flatten(0, 1)  # pictures first, then their mirrors
        return Examples(latents=latents, masks=M.to(base.device), digest=digest)

    return run_on_device(gather)


def _prepare(
    base: "BaseModel",
    pictures: Sequence[Image.Image],
    masks: Sequence[Image.Image | None],
    config: TrainConfig,
    *,
    found: Sequence[bool],
    side: int,
) -> tuple[Tensor, Tensor, str]:
    """Return pixels (M, 3, side, side), soft masks (M, 1, h, w), and the pictures' digest."""
    pixels = torch.stack([to_pixels(picture, side=side) for picture in pictures])
    latent_side = side // base.vae_factor
    M = torch.stack([to_soft_mask(mask, side=side, latent_side=latent_side) for mask in masks])
    given = M.clone()
    given[torch.tensor(found)] = 1
    digest = hashlib.sha256(pixels.numpy().tobytes() + given.numpy().tobytes())
    if any(found):
        digest.update(bytes(found))
    if config.flip:
        pixels, M = torch.cat([pixels, pixels.flip(-1)]), torch.cat([M, M.flip(-1)])
    return pixels, M, digest.hexdigest()


@torch.no_grad()
def _encode(base: "BaseModel", pixels: Tensor) -> Tensor:
    """Return the latents (m, c, h, w) of pictures (m, 3, side, side), each encoded separately."""
    latents = torch.cat(
        [base.vae.encode(pixel[None].to(base.device)).latent_dist.mode() for pixel in pixels]
    )
    scale: float = base.vae.config.scaling_factor
    return (latents - (base.vae.config.shift_factor or 0.0)) * scale

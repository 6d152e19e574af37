"""Latents to pixels and back, as much at once as the device's memory allows."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_core.devices.plans import encodes_as_a_whole, images_at_once, tile_side
from perfusion_core.memory import free_bytes

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel


@torch.no_grad()
def decode_latents(base: "BaseModel", latents: Tensor) -> Tensor:
    """Return the pixels (B, 3, H, W), about -1 to 1, of latents (B, c, h, w).

    Images are decoded together only if that takes little of the free memory. An image that does not
    fit as a whole is decoded in tiles. Then it differs from the whole image, because each tile's
    norms see the tile alone.
    """
    config, needs = base.vae.config, base.placed.needs
    latents = (latents / config.scaling_factor + (config.shift_factor or 0.0)).to(base.vae.dtype)
    pixels = latents.shape[-2] * latents.shape[-1] * base.vae_factor**2
    with base.placed.offloading.using("vae"):
        free = free_bytes(base.device)
        at_once = images_at_once(needs, pixels=pixels, free=free)
        _set_tiles(base, None if at_once else tile_side(needs.decoding_per_pixel, free=free))
        parts = latents.split(at_once or 1)
        return torch.cat([base.vae.decode(part).sample.float() for part in parts])


@torch.no_grad()
def encode_pixels(base: "BaseModel", pixels: Tensor) -> Tensor:
    """Return the latents (B, c, h, w) of pixels (B, 3, H, W), each picture encoded separately."""
    config, needs = base.vae.config, base.placed.needs
    with base.placed.offloading.using("vae"):
        free = free_bytes(base.device)
        whole = encodes_as_a_whole(needs, pixels=pixels[0, 0].numel(), free=free)
        _set_tiles(base, None if whole else tile_side(needs.encoding_per_pixel, free=free))
        given = pixels.to(base.device, base.vae.dtype).split(1)
        latents = torch.cat([base.vae.encode(each).latent_dist.mode() for each in given]).float()
    scale: float = config.scaling_factor
    return (latents - (config.shift_factor or 0.0)) * scale


def _set_tiles(base: "BaseModel", side: int | None) -> None:
    """Let the VAE work in tiles of `side` pixels; None means without tiles."""
    base.vae.use_tiling = side is not None
    if side is not None:
        base.vae.tile_sample_min_size = side
        base.vae.tile_latent_min_size = side // base.vae_factor

"""Small pictures of images that are still being sampled."""

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from perfusion_core.imaging.pixels import to_image
from perfusion_core.sampling.autoencoder import decode_latents
from perfusion_core.sampling.linear_decoder import LinearDecoder
from perfusion_core.sampling.trajectories import Trajectory

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel

MAX_ESTIMATE_BYTES = 12_000
"""A data URL of so many bytes has less than 16 KiB."""
MAX_ROUGH_BYTES = 2_000
"""The data URLs of so many bytes for 16 images have less than 43 KiB."""

_MOST_PIXELS_A_SIDE = 256
_QUALITIES = (80, 60, 40, 20)


@torch.no_grad()
def estimates(
    base: "BaseModel",
    trajectory: Trajectory,
    others: Sequence[Trajectory],
    *,
    decoder: LinearDecoder,
) -> tuple[Image.Image, list[Image.Image | None]] | None:
    """Return what the sampler takes the finished image for, and small soft pictures of others.

    These are the predicted original latents of the last step. The VAE decodes those of
    `trajectory`, and `decoder` learns from the result and decodes those of `others`, at a
    hundredth of the cost or less. None before the first step. No trajectory changes.
    """
    latents = _small_latents(base, trajectory)
    if latents is None:
        return None
    pixels = decode_latents(base, latents)  # (1, 3, H, W)
    picture = _to_image(pixels)
    if picture is None:
        return None
    decoder.learn(trajectory, latents, pixels)
    return picture, [_rough(_small_latents(base, other), decoder) for other in others]


def _rough(latents: Tensor | None, decoder: LinearDecoder) -> Image.Image | None:
    pixels = None if latents is None else decoder.decode(latents)
    return None if pixels is None else _to_image(pixels)


def _small_latents(base: "BaseModel", trajectory: Trajectory) -> Tensor | None:
    """Return the predicted original latents (1, c, h, w) of the last step, if there are any.

    Latents of a large image are averaged, because decoding costs as much as the pixels it gives.
    """
    latents = trajectory.predicted  # (1, c, h, w)
    if latents is None:
        return None
    longest = max(latents.shape[-2:]) * base.vae_factor
    return torch.nn.functional.avg_pool2d(latents, math.ceil(longest / _MOST_PIXELS_A_SIDE))


def _to_image(pixels: Tensor) -> Image.Image | None:
    return to_image(pixels[0]) if bool(pixels.isfinite().all()) else None


def encode_estimate(picture: Image.Image, *, max_bytes: int = MAX_ESTIMATE_BYTES) -> bytes:
    """Return a picture as a JPEG of at most `max_bytes`, as good as fits."""
    while True:
        for quality in _QUALITIES:
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=quality)
            if file.tell() <= max_bytes:
                return file.getvalue()
        picture = picture.reduce(2)

"""Small pictures of images that are still being sampled."""

import io
import math
from typing import TYPE_CHECKING

import torch
from PIL import Image

from perfusion_core.imaging.pixels import to_image
from perfusion_core.sampling.autoencoder import decode_latents
from perfusion_core.sampling.trajectories import Trajectory

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel

MAX_ESTIMATE_BYTES = 12_000
"""A data URL of so many bytes has less than 16 KiB."""

_MOST_PIXELS_A_SIDE = 256
_QUALITIES = (80, 60, 40, 20)


@torch.no_grad()
def estimate(base: "BaseModel", trajectory: Trajectory) -> Image.Image | None:
    """Return what the sampler takes the finished image for; None before its first step.

    These are the predicted original latents of the last step, decoded by the VAE. Latents of a
    large image are averaged first, because decoding costs as much as the pixels that it gives.
    Nothing of the trajectory changes.
    """
    latents = trajectory.predicted  # (1, c, h, w)
    if latents is None:
        return None
    longest = max(latents.shape[-2:]) * base.vae_factor
    latents = torch.nn.functional.avg_pool2d(latents, math.ceil(longest / _MOST_PIXELS_A_SIDE))
    (pixels,) = decode_latents(base, latents)  # (3, H, W)
    return to_image(pixels) if bool(pixels.isfinite().all()) else None


def encode_estimate(picture: Image.Image) -> bytes:
    """Return a picture as a JPEG of at most MAX_ESTIMATE_BYTES, as good as fits."""
    while True:
        for quality in _QUALITIES:
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=quality)
            if file.tell() <= MAX_ESTIMATE_BYTES:
                return file.getvalue()
        picture = picture.reduce(2)

"""Conversions between pictures and tensors."""

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor


def to_pixels(picture: Image.Image, *, side: int) -> Tensor:
    """Return a picture, cropped to its central square, as (3, side, side) in [-1, 1].

    Transparent parts become white; a training mask excludes transparent parts from the loss.
    """
    square = ImageOps.fit(opaque(picture), (side, side), Image.Resampling.LANCZOS)
    return from_image(square)


def from_image(picture: Image.Image) -> Tensor:
    """Return a picture of mode RGB or L as (3 or 1, H, W) in [-1, 1]."""
    array = np.asarray(picture, dtype=np.float32) / 127.5 - 1.0
    return torch.from_numpy(array.reshape(picture.height, picture.width, -1)).permute(2, 0, 1)


def opaque(picture: Image.Image) -> Image.Image:
    """Return a picture as RGB; white replaces the arbitrary colours of transparent parts."""
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def to_image(pixels: Tensor) -> Image.Image:
    """Return pixels (3, H, W) in [-1, 1] as a picture; values outside the range are clipped."""
    scaled = (pixels.float().clamp(-1, 1) * 127.5 + 127.5).round().to("cpu", torch.uint8)
    return Image.fromarray(scaled.permute(1, 2, 0).numpy())

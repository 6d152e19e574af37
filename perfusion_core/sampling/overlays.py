"""Overlays: an image with a word's map on top, brighter where the word has more attention.

The colours come from the viridis palette. Viridis grows lighter evenly, so that the map is readable
with any kind of colour vision, and in print without colour.
"""

import io

import numpy as np
from PIL import Image
from torch import Tensor

from perfusion_core.editing.window import Window
from perfusion_core.sampling.attention_maps import COVERAGE_THRESHOLD

MAX_SIDE = 512
"""The longest side of an overlay in pixels. Larger overlays show no more, since a map has one value
for eight pixels of the image's side."""

# Every ninth part of viridis, from least to most.
_RAMP = np.array(
    [
        (68, 1, 84), (72, 40, 120), (62, 73, 137), (49, 104, 142), (38, 130, 142),
        (31, 158, 137), (53, 183, 121), (110, 206, 88), (181, 222, 43), (253, 231, 37),
    ],
    dtype=np.float32,
)  # fmt: skip
_LEAST_OPACITY = 0.25
_MOST_OPACITY = 0.75


def draw(image: Image.Image, share: Tensor, *, window: Window | None = None) -> bytes:
    """Return the PNG of `image` under the map `share` (h, w), a word's share of the attention.

    The colour scale ends at the map's own maximum, so that the overlay shows where the word has
    most attention. The overlay of a word that covers nothing stays dark, because otherwise the
    overlay of every article ("a", "the") would be bright. With a `window`, the map is of this part
    of the image, and the rest has no attention.
    """
    # The image is shown in grey, so that its colours are not confused with the map's colours.
    grey = image.convert("L").convert("RGB")
    grey.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    heat = share / max(float(share.max()), COVERAGE_THRESHOLD)
    smooth = _spread(Image.fromarray(heat.numpy()), image.size, grey.size, window=window)
    value = np.clip(np.asarray(smooth, dtype=np.float32), 0.0, 1.0)  # (H, W)
    at = np.linspace(0.0, 1.0, len(_RAMP))
    colour = np.stack([np.interp(value, at, _RAMP[:, c]) for c in range(3)], axis=-1)
    opacity = (_LEAST_OPACITY + (_MOST_OPACITY - _LEAST_OPACITY) * value)[..., None]
    blended = opacity * colour + (1 - opacity) * np.asarray(grey, dtype=np.float32)
    file = io.BytesIO()
    Image.fromarray(blended.round().astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def _spread(
    heat: Image.Image, whole: tuple[int, int], size: tuple[int, int], *, window: Window | None
) -> Image.Image:
    """Return a map at `size`, which stands for an image of the size `whole`."""
    if window is None:
        return heat.resize(size, Image.Resampling.BICUBIC)
    left, top, right, bottom = (
        round(edge * size[axis % 2] / whole[axis % 2]) for axis, edge in enumerate(window.visible)
    )
    inner = (
        window.inner[0] * heat.width / window.side,
        window.inner[1] * heat.height / window.side,
        window.inner[2] * heat.width / window.side,
        window.inner[3] * heat.height / window.side,
    )
    part = (max(right - left, 1), max(bottom - top, 1))
    spread = Image.new("F", size, 0.0)
    spread.paste(heat.resize(part, Image.Resampling.BICUBIC, box=inner), (left, top))
    return spread

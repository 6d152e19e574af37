"""The window of a masked edit: the square of a picture that the base model sees and paints.

Does not import torch. A picture of any size costs little memory here: only what lies in the window
is scaled, in one step, to the base model's own size.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from perfusion_core.editing.masks import binary

Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels; right and bottom lie outside."""

# Around the mask the base model sees at least this share of the window's side, whatever the margin:
# without known surroundings what is painted would not fit in.
_LEAST_RING = 1 / 8
# An edit that keeps the background knows it there, too. A base model likes to fill its square with
# the subject, so with a narrow ring the mask cuts less of the subject off.
_LEAST_RING_AROUND_SUBJECT = 1 / 16


@dataclass(frozen=True)
class Window:
    """A square of a picture, and the square of `side` pixels to which it is scaled.

    `visible` is what the picture has of the window, in the picture's pixels. `inner` is the same
    part in the scaled square. Where the picture ends, the scaled square goes on as a mirror image.
    """

    visible: Box
    inner: Box
    side: int

    def cut(self, picture: Image.Image) -> Image.Image:
        """Return the window's part of a picture as a square of `side` pixels, mirrored outside."""
        array = np.asarray(self._scaled(picture, Image.Resampling.LANCZOS))
        left, top, right, bottom = self.inner
        around = ((top, self.side - bottom), (left, self.side - right))
        return Image.fromarray(np.pad(array, (*around, (0, 0)), mode="symmetric"))

    def cut_mask(self, mask: Image.Image) -> Image.Image:
        """Return how much of each pixel of the square is white in a mask; black outside."""
        square = Image.new("L", (self.side, self.side), 0)
        square.paste(self._scaled(binary(mask), Image.Resampling.BOX), self.inner[:2])
        return square

    def back(self, painted: Image.Image, box: Box) -> Image.Image:
        """Return the part of a painted square that belongs to a box of the picture, in its size."""
        left, top, right, bottom = self.visible
        to_x = (self.inner[2] - self.inner[0]) / (right - left)
        to_y = (self.inner[3] - self.inner[1]) / (bottom - top)
        source = (
            self._within(self.inner[0] + (box[0] - left) * to_x),
            self._within(self.inner[1] + (box[1] - top) * to_y),
            self._within(self.inner[0] + (box[2] - left) * to_x),
            self._within(self.inner[1] + (box[3] - top) * to_y),
        )
        size = (box[2] - box[0], box[3] - box[1])
        return painted.resize(size, Image.Resampling.LANCZOS, box=source)

    def _within(self, edge: float) -> float:
        """Return the edge, without what rounding moved out of the square."""
        return min(max(edge, 0.0), float(self.side))

    def _scaled(self, picture: Image.Image, resample: Image.Resampling) -> Image.Image:
        left, top, right, bottom = self.inner
        size = (right - left, bottom - top)
        return picture.resize(size, resample, box=self.visible, reducing_gap=3.0)


def window_around(
    mask: Image.Image, *, margin: int, side: int, keeps_background: bool = False
) -> Window:
    """Return the window of a mask: its bounding box and a margin, made square inside the picture.

    `margin` is in pixels of the picture and grows to an eighth of the window's side where it is
    smaller, or to a sixteenth if the edit keeps the background; at the picture's edge there is
    none. `side` is the base model's own.
    """
    left, top, right, bottom = _bounding_box(mask)
    width, height = mask.size
    ring = _LEAST_RING_AROUND_SUBJECT if keeps_background else _LEAST_RING
    around = max(right - left, bottom - top) * ring / (1 - 2 * ring)
    margin = max(margin, math.ceil(around))
    left, top = max(left - margin, 0), max(top - margin, 0)
    right, bottom = min(right + margin, width), min(bottom + margin, height)
    length = max(right - left, bottom - top)
    x0, x1, inner_x = _along(left, right, length=length, whole=width, side=side)
    y0, y1, inner_y = _along(top, bottom, length=length, whole=height, side=side)
    inner = (inner_x[0], inner_y[0], inner_x[1], inner_y[1])
    return Window(visible=(x0, y0, x1, y1), inner=inner, side=side)


def _along(
    begin: int, end: int, *, length: int, whole: int, side: int
) -> tuple[int, int, tuple[int, int]]:
    """Return one axis of a window of `length`: what is visible of it, and where in the square."""
    if length <= whole:
        begin = min(max((begin + end - length) // 2, 0), whole - length)
        return begin, begin + length, (0, side)
    inside = max(1, round(side * whole / length))
    first = (side - inside) // 2
    return 0, whole, (first, first + inside)


def _bounding_box(mask: Image.Image) -> Box:
    box = binary(mask).getbbox()
    assert box is not None  # an Edit has a mask with some white
    return box

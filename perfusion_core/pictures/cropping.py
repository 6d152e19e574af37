"""The part of a picture that a training sees: a square around the object, with a margin."""

import math

import numpy as np
from PIL import Image

from perfusion_core.errors import PictureError

Crop = tuple[int, int, int, int]
"""x, y, width and height in pixels of the upright picture; (0, 0) is the upper left corner."""

# A mask's pixels count as the object from this share of the mask's brightest pixel on. A
# segmenter's mask is nowhere quite black.
OBJECT_SHARE = 0.5
# The object's longer side takes at most this share of the crop's side. The superclass's images,
# which the concept starts from, show their object with some room. Pictures of objects that are
# larger than this, such as the demo's, are not cropped at all.
_LARGEST_SHARE = 0.64
# The margin of an object that is longer than the picture's shorter side.
_LARGEST_LONG_SHARE = 0.95


def object_box(mask: Image.Image) -> tuple[int, int, int, int]:
    """Return the object of a grey mask as (left, top, right, bottom) in pixels.

    Raises PictureError if the mask is all black.
    """
    brightest = _brightest(mask)
    if not brightest:
        raise PictureError("A mask is all black: paint the object white, or leave the mask out.")
    least = max(1, math.ceil(brightest * OBJECT_SHARE))
    box = mask.convert("L").point(lambda value: 255 if value >= least else 0).getbbox()
    assert box is not None  # the brightest pixel lies in it
    return box


def crop_around(mask: Image.Image | None, *, size: tuple[int, int]) -> Crop:
    """Return the crop of a picture of `size` (width, height) that a training sees.

    The crop is a square that holds the whole object with a margin and lies inside the picture. If
    the object is longer than the picture's shorter side, no such square exists, and the crop is a
    rectangle, which `cut` makes square. Without a mask the crop is the central square.
    """
    width, height = size
    shorter = min(size)
    if mask is None:
        return (width - shorter) // 2, (height - shorter) // 2, shorter, shorter
    left, top, right, bottom = object_box(mask)
    longest = max(right - left, bottom - top)
    side = min(shorter, math.ceil(longest / _LARGEST_SHARE))
    crop_width, crop_height = side, side
    if longest > shorter:
        length = min(max(size), math.ceil(longest / _LARGEST_LONG_SHARE))
        crop_width, crop_height = min(width, length), min(height, length)
    x = _start(left, right, length=crop_width, whole=width)
    y = _start(top, bottom, length=crop_height, whole=height)
    return x, y, crop_width, crop_height


def check_crop(crop: Crop, *, size: tuple[int, int]) -> None:
    """Raise PictureError if the crop is empty or reaches out of a picture of `size`."""
    x, y, width, height = crop
    if min(x, y) < 0 or min(width, height) < 1 or x + width > size[0] or y + height > size[1]:
        raise PictureError(
            f"The crop [{x}, {y}, {width}, {height}] does not lie inside its picture of "
            f"{size[0]} x {size[1]} pixels: give x, y, width and height in pixels."
        )


def cut(picture: Image.Image, crop: Crop) -> Image.Image:
    """Return the crop of a picture as a square; a shorter side is filled with its edge's pixels."""
    x, y, width, height = crop
    if (x, y, width, height) == (0, 0, *picture.size) and width == height:
        return picture
    part = picture.crop((x, y, x + width, y + height))
    if width == height:
        return part
    if part.mode not in ("L", "RGB", "RGBA"):
        part = part.convert("RGBA" if part.has_transparency_data else "RGB")
    missing = [max(width, height) - length for length in (height, width)]
    padding = [(length // 2, length - length // 2) for length in missing]
    pixels = np.asarray(part)
    return Image.fromarray(np.pad(pixels, padding + [(0, 0)] * (pixels.ndim - 2), mode="edge"))


def cut_mask(mask: Image.Image | None, crop: Crop) -> Image.Image | None:
    """Return the crop of a mask as a square; what `cut` fills in is black. None is all white."""
    x, y, width, height = crop
    if mask is None and width == height:
        return None
    part = Image.new("L", (width, height), 255)
    if mask is not None:
        part = mask.convert("L").crop((x, y, x + width, y + height))
    side = max(width, height)
    square = Image.new("L", (side, side), 0)
    square.paste(part, ((side - width) // 2, (side - height) // 2))
    return square


def _start(low: int, high: int, *, length: int, whole: int) -> int:
    """Return where a crop of `length` starts so that the object's centre is the crop's centre."""
    return min(max(0, (low + high - length) // 2), whole - length)


def _brightest(mask: Image.Image) -> int:
    extrema: tuple[int, int] = mask.convert("L").getextrema()  # type: ignore[assignment]
    return extrema[1]

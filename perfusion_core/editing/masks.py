"""Masks of edits: from boxes, from a segmenter, and as what is painted anew or not.

Does not import torch.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFilter

from perfusion_core.errors import EditError
from perfusion_core.pictures.decoding import WHITE_FROM

if TYPE_CHECKING:
    from perfusion_core.pictures.masks import FindObject

# If a segmenter finds an object, some pixels are far brighter than a tenth of white.
_LEAST_FOUND = 26
# A segmenter's mask is soft and coarse. What is brighter than half of its maximum is the object.
_SHARE_OF_BRIGHTEST = 0.5
# A segmenter's mask is computed at about this longest side, which grows it quickly.
_GROWN_AT = 352
# It grows by this share of its longest side, so that no rim of what is replaced remains.
_GROWTH = 1 / 60


def binary(mask: Image.Image) -> Image.Image:
    """Return a grey mask in black and white: from 128 on, grey is white."""
    return mask.point(lambda grey: 255 if grey >= WHITE_FROM else 0)


def mask_of_boxes(size: tuple[int, int], boxes: Sequence[Sequence[int]]) -> Image.Image:
    """Return the mask of a picture of `size` that is white in the boxes [x, y, width, height].

    Raises EditError if there is no box, or if a box is not inside the picture.
    """
    if not boxes:
        raise EditError("There is no box: name at least one, as x, y, width, height.")
    mask = Image.new("L", size, 0)
    pen = ImageDraw.Draw(mask)
    for box in boxes:
        if len(box) != 4:
            raise EditError(f"A box has four numbers, x, y, width, height, and not {len(box)}.")
        x, y, width, height = box
        named = f"The box {x},{y},{width},{height}"
        if width < 1 or height < 1:
            raise EditError(f"{named} is empty: its width and height must be at least 1.")
        if x < 0 or y < 0 or x + width > size[0] or y + height > size[1]:
            raise EditError(
                f"{named} is not inside the picture, which has {size[0]} x {size[1]} pixels: "
                "x + width and y + height may not be larger."
            )
        pen.rectangle((x, y, x + width - 1, y + height - 1), fill=255)
    return mask


def mask_of_subject(picture: Image.Image, subject: str, find: "FindObject") -> Image.Image:
    """Return the mask of what the segmenter `find` finds for `subject`, a little larger than it.

    Raises EditError if nothing is found.
    """
    soft = find(picture, subject).convert("L")
    soft.thumbnail((_GROWN_AT, _GROWN_AT), Image.Resampling.BILINEAR)
    brightest = max(grey for grey, count in enumerate(soft.histogram()) if count)
    if brightest < _LEAST_FOUND:
        raise EditError(
            f"No {subject} was found in the picture: name what it shows, or give a mask or boxes."
        )
    found = soft.point(lambda grey: 255 if grey >= _SHARE_OF_BRIGHTEST * brightest else 0)
    radius = max(1, round(_GROWTH * max(soft.size)))
    grown = found.filter(ImageFilter.MaxFilter(2 * radius + 1))
    return binary(grown.resize(picture.size, Image.Resampling.BILINEAR))

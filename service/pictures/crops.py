"""Crops of pictures, given in pixels of the uploaded picture, which is stored at another size."""

from service.errors import invalid
from service.pictures.uploads import UploadedPicture

Crop = tuple[int, int, int, int]
"""x, y, width and height in pixels of the upright picture; (0, 0) is the upper left corner."""
_Size = tuple[int, int]


def to_stored(crop: Crop, picture: UploadedPicture, *, least_side: int, pointer: str) -> Crop:
    """Return a crop of the uploaded picture as a crop of the stored one.

    Raises Invalid with `pointer` if the crop does not lie in the picture, or if one of its sides
    has less than `least_side` pixels.
    """
    x, y, width, height = crop
    whole_width, whole_height = picture.uploaded_size
    if min(x, y) < 0 or x + width > whole_width or y + height > whole_height:
        raise invalid(
            pointer,
            f"This crop must lie inside its picture, which has {whole_width} x {whole_height} "
            "pixels.",
        )
    if min(width, height) < least_side:
        raise invalid(pointer, f"Each side of a crop must have at least {least_side} pixels.")
    return _scaled(crop, old=picture.uploaded_size, new=(picture.width, picture.height))


def to_uploaded(crop: Crop, *, stored_size: _Size, uploaded_size: _Size) -> Crop:
    """Return a crop of the stored picture as a crop of the uploaded one.

    `to_stored` returns the same crop again, because a stored picture is never larger.
    """
    return _scaled(crop, old=stored_size, new=uploaded_size)


def _scaled(crop: Crop, *, old: _Size, new: _Size) -> Crop:
    x, y, width, height = crop
    left, right = (round(edge * new[0] / old[0]) for edge in (x, x + width))
    top, bottom = (round(edge * new[1] / old[1]) for edge in (y, y + height))
    return left, top, max(1, right - left), max(1, bottom - top)

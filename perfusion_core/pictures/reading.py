"""Read pictures from files: upright and in sRGB; to learn from, or at full size for an edit."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from perfusion_core.errors import PictureError
from perfusion_core.pictures import decoding


def open_picture(file: str | Path | BinaryIO) -> Image.Image:
    """Return a JPEG, PNG, WebP or HEIC picture as RGB, or as RGBA if some pixel is transparent.

    The EXIF orientation is applied, the colour profile is converted to sRGB, and the longest side
    has at most 2048 pixels. HEIC needs pi-heif (`pip install perfusion[heic]`). Raises PictureError
    if the file cannot be decoded, and OSError if it cannot be read.
    """
    return _read(file, decoding.decode)


def open_whole(file: str | Path | BinaryIO) -> Image.Image:
    """Return a picture to edit: RGB at its full size, upright and in sRGB; raises as above."""
    return _read(file, decoding.decode_whole)


def open_mask(file: str | Path | BinaryIO) -> Image.Image:
    """Return the mask of an edit: grey at its full size, turned like a picture; raises as above."""
    return _read(file, lambda image: decoding.decode_mask(image, longest_side=max(image.size)))


def _read(file: str | Path | BinaryIO, decode: Callable[[Image.Image], Image.Image]) -> Image.Image:
    if isinstance(file, (str, Path)):
        with Path(file).open("rb") as opened:
            return _read(opened, decode)
    formats = [*decoding.FORMATS, *([decoding.HEIF] if decoding.register_heif() else [])]
    head = file.read(12)
    file.seek(0)
    if decoding.is_heif(head) and decoding.HEIF not in formats:
        raise PictureError(
            "This is a HEIC picture. Install `perfusion[heic]` to read it, or save it as JPEG."
        )
    try:
        with Image.open(file, formats=formats) as image:
            return decode(image)
    except UnidentifiedImageError:
        raise PictureError(
            "This is not a JPEG, PNG, WebP or HEIC picture, whatever its name says."
        ) from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise PictureError(
            "This picture is damaged, incomplete or too large. Save it again and use that."
        ) from error

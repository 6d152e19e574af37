"""Thumbnails of generated images, and smaller ones for concept files. Does not import torch."""

import io

from PIL import Image

IMAGE_SIDE = 256
"""The longer side of a generated image's thumbnail in pixels, unless the image is smaller."""
MAX_THUMBNAIL_BYTES = 3 * 1024
_SIDES = (128, 96, 64, 32)
_QUALITIES = (80, 55, 30)


def of_png(png: bytes) -> bytes:
    """Return the image of a PNG file as WebP of at most IMAGE_SIDE pixels a side.

    The file's XMP comes along, because a thumbnail, too, says that a model made the image.
    """
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        small = _shrunk(image, IMAGE_SIDE)
        return _encode(small, quality=_QUALITIES[0], xmp=image.info.get("xmp"))


def thumbnail(image: Image.Image) -> bytes:
    """Return the image as WebP of at most MAX_THUMBNAIL_BYTES, as large and as good as fits."""
    for side in _SIDES:
        small = _shrunk(image, side)
        for quality in _QUALITIES:
            data = _encode(small, quality=quality)
            if len(data) <= MAX_THUMBNAIL_BYTES:
                return data
    # A thumbnail of 32 x 32 pixels has 3,072 bytes uncompressed; WebP's worst case is far smaller.
    raise ValueError("a thumbnail of 32 pixels came out larger than its pixels")


def is_thumbnail(data: bytes) -> bool:
    """Return whether `data` begins like a WebP file and is short enough; nothing is decoded."""
    return len(data) <= MAX_THUMBNAIL_BYTES and data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def _encode(image: Image.Image, *, quality: int, xmp: bytes | None = None) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality, method=6, xmp=xmp or b"")
    return file.getvalue()

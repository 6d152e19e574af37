"""Thumbnails for a concept file: WebP, a few kilobytes each. Does not import torch."""

import io

from PIL import Image

MAX_THUMBNAIL_BYTES = 3 * 1024
_SIDES = (128, 96, 64, 32)
_QUALITIES = (80, 55, 30)


def thumbnail(image: Image.Image) -> bytes:
    """Return the image as WebP of at most MAX_THUMBNAIL_BYTES, as large and as good as fits."""
    for side in _SIDES:
        small = image.convert("RGB")
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        for quality in _QUALITIES:
            file = io.BytesIO()
            small.save(file, "WEBP", quality=quality, method=6)
            if file.tell() <= MAX_THUMBNAIL_BYTES:
                return file.getvalue()
    # A thumbnail of 32 x 32 pixels has 3,072 bytes uncompressed; WebP's worst case is far smaller.
    raise ValueError("a thumbnail of 32 pixels came out larger than its pixels")


def is_thumbnail(data: bytes) -> bool:
    """Return whether `data` begins like a WebP file and is short enough; nothing is decoded."""
    return len(data) <= MAX_THUMBNAIL_BYTES and data[:4] == b"RIFF" and data[8:12] == b"WEBP"

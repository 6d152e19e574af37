"""Small pictures for a concept file: WebP, a few kilobytes each. Imports no torch."""

import io

from PIL import Image

MAX_THUMBNAIL_BYTES = 3 * 1024
_SIDES = (128, 96, 64, 32)
_QUALITIES = (80, 55, 30)


def thumbnail(image: Image.Image) -> bytes:
    """The image as WebP of at most MAX_THUMBNAIL_BYTES, as large and as good as fits."""
    for side in _SIDES:
        small = image.convert("RGB")
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        for quality in _QUALITIES:
            file = io.BytesIO()
            small.save(file, "WEBP", quality=quality, method=6)
            if file.tell() <= MAX_THUMBNAIL_BYTES:
                return file.getvalue()
    # 32 pixels a side are 3,072 bytes even as plain numbers; WebP's worst is far below.
    raise ValueError("a thumbnail of 32 pixels came out larger than its pixels")


def is_thumbnail(data: bytes) -> bool:
    """Whether these bytes begin like a WebP file and are few enough; they are not decoded."""
    return len(data) <= MAX_THUMBNAIL_BYTES and data[:4] == b"RIFF" and data[8:12] == b"WEBP"

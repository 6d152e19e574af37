"""The picture of an edit and its mask, decoded as uploads are, but at full size.

An edit keeps the pixels of a photo outside its mask, so its picture is never shrunk. Only one such
upload is decoded and stored at a time, because a photo of 64 megapixels may be a PNG of 190 MB.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Literal

from service.pictures import decoder, uploads
from service.pictures.decoder import Decoded
from service.settings.environment import Settings
from service.wiring import Service

MAX_EDIT_PIXELS = 64_000_000
"""The most pixels of a picture to edit; the settings may allow fewer."""
MaskKind = Literal["white", "transparent"]
"""How a mask marks what is painted anew."""


@dataclass(frozen=True, kw_only=True)
class UploadedFile:
    """A picture or mask as PNG: a picture is RGB, upright and sRGB, and a mask is grey."""

    png: bytes
    width: int
    height: int
    sha256: str

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height


@dataclass(frozen=True, kw_only=True)
class EditUpload:
    """The files of an edit. Without a picture, the request names a generated image."""

    picture: UploadedFile | None = None
    mask: UploadedFile | None = None

    @property
    def hashes(self) -> list[str | None]:
        """The SHA-256 of picture and mask."""
        return [file.sha256 if file else None for file in (self.picture, self.mask)]


@contextmanager
def reading(
    service: Service,
    *,
    picture: bytes | BinaryIO | None = None,
    mask: bytes | BinaryIO | None = None,
    mask_kind: MaskKind = "white",
) -> Iterator[EditUpload]:
    """Decode the files of an edit; the block stores them, while no other upload is read.

    Raise Invalid, TooLarge or UnsupportedMedia with the pointer `/image` or `/mask_image`. A mask
    must be as large as the picture and not empty.
    """
    most_bytes, settings = service.settings.max_picture_bytes, _settings(service)
    parts = [
        None if file is None else uploads.part(pointer, role, file, most_bytes)
        for pointer, role, file in (
            ("/image", "photo", picture),
            ("/mask_image", mask_kind, mask),
        )
    ]
    with uploads.turn(service.edit_decoders, settings):
        with decoder.running(settings, full_size=True) as process:
            files = [None if part is None else _uploaded(process.decode(part)) for part in parts]
        upload = EditUpload(picture=files[0], mask=files[1])
        if upload.picture is not None:
            check_size(upload, picture=upload.picture.size)
        yield upload


def check_size(upload: EditUpload, *, picture: tuple[int, int]) -> None:
    """Raise Invalid unless the mask, if there is one, is as large as the picture."""
    if upload.mask is not None:
        uploads.check_mask_size(upload.mask.size, picture, pointer="/mask_image")


def _settings(service: Service) -> Settings:
    limits = ("max_picture_pixels", "max_jpeg_pixels")
    fewer = {name: min(MAX_EDIT_PIXELS, getattr(service.settings, name)) for name in limits}
    return service.settings.model_copy(update=fewer)


def _uploaded(decoded: Decoded) -> UploadedFile:
    return UploadedFile(
        png=decoded.png,
        width=decoded.width,
        height=decoded.height,
        sha256=hashlib.sha256(decoded.png).hexdigest(),
    )

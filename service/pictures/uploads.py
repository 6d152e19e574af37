"""Check, decode, orient and re-encode uploaded pictures and masks before any other use.

Only the newly encoded PNG is stored, without metadata such as GPS positions and without extra bytes
at its end. Only JPEG, PNG, WebP and, where pi-heif is installed, HEIC are decoded. Decoding runs in
a separate process with limits on memory and time (see decoder.py), because C code handles a
caller's bytes only in a decoder.
"""

import hashlib
import io
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import BinaryIO

from service.errors import FieldProblem, Invalid, TooLarge, Unavailable, invalid
from service.pictures import decoder
from service.pictures.decoder import STORED_SIDE_PIXELS, Decoded, Part
from service.settings.environment import Settings
from service.wiring import Service

__all__ = ["MAX_PICTURES", "STORED_SIDE_PIXELS", "UploadedPicture", "read_pictures"]

MAX_PICTURES = 20
_THUMBNAIL_PIXELS = 256 * 256


@dataclass(frozen=True, kw_only=True)
class UploadedPicture:
    """A picture to train on, as PNG: RGB, or RGBA if its alpha marks the object."""

    png: bytes
    width: int
    height: int
    has_alpha: bool
    sha256: str
    uploaded_size: tuple[int, int]  # upright, before it was shrunk
    mask_png: bytes | None = None  # grey, white is the object; as large as the picture


def read_pictures(
    service: Service,
    *,
    images: Sequence[bytes | BinaryIO],
    masks: Sequence[bytes | BinaryIO] = (),
) -> Generator[UploadedPicture, None, None]:
    """Go through the pictures of an upload, each with its mask if masks were sent.

    A picture is decoded only when the caller asks for it, because 20 decoded pictures may be far
    larger than the upload. Raise Invalid, TooLarge or UnsupportedMedia with the pointer of the
    wrong part, such as `/images/0` or `/masks/2`. Sizes and numbers are checked first.
    """
    wrong = wrong_counts(len(images), masks=len(masks))
    if wrong:
        raise Invalid(wrong)
    most = service.settings.max_picture_bytes
    pictures = [part(f"/images/{n}", "picture", file, most) for n, file in enumerate(images)]
    covers = [part(f"/masks/{n}", "mask", file, most) for n, file in enumerate(masks)]
    return _decode_pictures(service, pictures, covers)


def wrong_counts(images: int, *, masks: int = 0, crops: int = 0) -> list[FieldProblem]:
    """Return the problems with this number of pictures, masks and crops."""
    wrong = []
    if not 1 <= images <= MAX_PICTURES:
        wrong.append(FieldProblem("/images", f"Send 1 to {MAX_PICTURES} pictures."))
    if masks not in (0, images):
        detail = "Send as many masks as pictures, in the same order, or none."
        wrong.append(FieldProblem("/masks", detail))
    if crops not in (0, images):
        detail = "Send as many crops as pictures, in the same order; null stands for no crop."
        wrong.append(FieldProblem("/crops", detail))
    return wrong


def read_thumbnails(service: Service, thumbnails: Sequence[bytes], *, pointer: str) -> list[bytes]:
    """Return the pictures of an imported concept's curve as PNG; errors contain `pointer`."""
    settings = service.settings.model_copy(
        update={
            "min_picture_side": 1,
            "max_picture_pixels": _THUMBNAIL_PIXELS,
            "max_jpeg_pixels": _THUMBNAIL_PIXELS,
        }
    )
    parts = [part(pointer, "picture", data, settings.max_picture_bytes) for data in thumbnails]
    # A separate semaphore, because thumbnails are small and must not wait for an upload's pictures.
    with turn(service.thumbnail_decoders, settings), decoder.running(settings) as process:
        return [process.decode(file).png for file in parts]


def part(pointer: str, role: str, file: bytes | BinaryIO, most_bytes: int) -> Part:
    """Return a file of an upload for the decoder; raise Invalid or TooLarge by its size."""
    source: BinaryIO = io.BytesIO(file) if isinstance(file, bytes) else file
    size_bytes = source.seek(0, os.SEEK_END)
    if not size_bytes:
        raise invalid(pointer, "This file is empty.")
    if size_bytes > most_bytes:
        raise TooLarge(
            "picture-too-large",
            f"This file has {size_bytes} bytes; at most {most_bytes} are accepted.",
            pointer=pointer,
        )
    return Part(pointer, role, source, size_bytes)


@contextmanager
def turn(decoders: BoundedSemaphore, settings: Settings) -> Iterator[None]:
    """Hold one of `decoders` while the block runs, or raise Unavailable.

    Wait as long as the previous upload may take, because after a refusal the caller must send all
    pictures again.
    """
    if not decoders.acquire(timeout=decoder.longest_seconds(settings)):
        raise Unavailable(
            "decoders-busy", "Too many pictures are being decoded at this moment. Try again soon."
        )
    try:
        yield
    finally:
        decoders.release()


def check_mask_size(mask: tuple[int, int], picture: tuple[int, int], *, pointer: str) -> None:
    """Raise Invalid unless a mask is exactly as large as its picture."""
    if mask != picture:
        raise invalid(
            pointer,
            "A mask must be exactly as large as its picture: the mask is {} x {} pixels and the "
            "picture {} x {}.".format(*mask, *picture),
        )


def _decode_pictures(
    service: Service, pictures: Sequence[Part], masks: Sequence[Part]
) -> Generator[UploadedPicture, None, None]:
    settings = service.settings
    with turn(service.decoders, settings), decoder.running(settings) as process:
        for number, file in enumerate(pictures):
            picture = process.decode(file)
            mask = process.decode(masks[number]) if masks else None
            yield _join(number, picture, mask)


def _join(number: int, picture: Decoded, mask: Decoded | None) -> UploadedPicture:
    if mask is not None:
        sizes = mask.uploaded_size, picture.uploaded_size
        check_mask_size(*sizes, pointer=f"/masks/{number}")
    return UploadedPicture(
        png=picture.png,
        width=picture.width,
        height=picture.height,
        has_alpha=picture.has_alpha,
        sha256=hashlib.sha256(picture.png).hexdigest(),
        uploaded_size=picture.uploaded_size,
        mask_png=mask.png if mask is not None else None,
    )

"""Uploaded pictures and masks: checked, decoded, oriented and re-encoded before anyone sees them.

What is stored is always our own PNG: no metadata, no position, no polyglot tail, no decoder but
those of JPEG, PNG and WebP. Decoding happens in a process of its own with bounds on memory and
time (see decoder.py), because a decoder is the one place where a stranger's bytes meet C code.
"""

import hashlib
import json
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import ServiceError, TooLarge, Unavailable, UnsupportedMedia, invalid
from service.settings import Settings
from service.wiring import Service

MAX_PICTURES = 20
STORED_SIDE_PIXELS = 2048
"""Longest side that is kept; larger pictures (and their masks alike) are shrunk to it."""

_THUMBNAIL_PIXELS = 256 * 256
_DECODER = Path(__file__).with_name("decoder.py")
_MEBIBYTE = 1024**2


@dataclass(frozen=True, kw_only=True)
class UploadedPicture:
    """A picture to train on, as PNG: RGB, or RGBA where its alpha says where the object is."""

    png: bytes
    width: int
    height: int
    has_alpha: bool
    sha256: str
    mask_png: bytes | None = None  # grey, white is the object; as large as the picture


def read_pictures(
    service: Service, *, images: Sequence[bytes], masks: Sequence[bytes] | None = None
) -> list[UploadedPicture]:
    """Return the pictures of `POST /concepts`, each with its mask if masks were sent.

    Raises Invalid, TooLarge or UnsupportedMedia with the pointer of the part to blame, such as
    `/images/0` or `/masks/2`.
    """
    masks = masks or ()
    if not 1 <= len(images) <= MAX_PICTURES:
        raise invalid(
            "/images", f"Send 1 to {MAX_PICTURES} pictures as images; these are {len(images)}."
        )
    if masks and len(masks) != len(images):
        raise invalid(
            "/masks",
            f"Send as many masks as images, in the same order, or none: "
            f"these are {len(masks)} masks for {len(images)} images.",
        )
    parts = [_Part(f"/images/{n}", "picture", data) for n, data in enumerate(images)]
    parts += [_Part(f"/masks/{n}", "mask", data) for n, data in enumerate(masks)]
    decoded = _decode_in_turn(service, parts, settings=service.settings)
    pictures = decoded[: len(images)]
    decoded_masks: Sequence[_Decoded | None] = decoded[len(images) :] or [None] * len(images)
    return [
        _join(n, picture, mask)
        for n, (picture, mask) in enumerate(zip(pictures, decoded_masks, strict=True))
    ]


def read_thumbnails(service: Service, thumbnails: Sequence[bytes], *, pointer: str) -> list[bytes]:
    """Return the pictures of an imported concept's curve as PNG; `pointer` is what errors name."""
    limits = {"min_picture_side": 1, "max_picture_pixels": _THUMBNAIL_PIXELS}
    parts = [_Part(pointer, "picture", data) for data in thumbnails]
    settings = service.settings.model_copy(update=limits)
    return [one.png for one in _decode_in_turn(service, parts, settings=settings)]


def normalize(data: bytes, *, settings: Settings, field: str) -> UploadedPicture:
    """Return one picture, outside of a service; `field` is what errors point at."""
    return _join(0, _decode([_Part(field, "picture", data)], settings=settings)[0], None)


@dataclass(frozen=True)
class _Part:
    pointer: str
    role: str
    data: bytes


@dataclass(frozen=True)
class _Decoded:
    png: bytes
    width: int
    height: int
    has_alpha: bool
    uploaded_size: tuple[int, int]


def _check_size(part: _Part, *, limit: int) -> None:
    if not part.data:
        raise invalid(part.pointer, "This file is empty.")
    if len(part.data) > limit:
        raise TooLarge(
            "picture-too-large",
            f"This file has {len(part.data)} bytes; at most {limit} are accepted.",
            pointer=part.pointer,
        )


def _join(number: int, picture: _Decoded, mask: _Decoded | None) -> UploadedPicture:
    if mask is not None and mask.uploaded_size != picture.uploaded_size:
        raise invalid(
            f"/masks/{number}",
            "A mask must be exactly as large as its picture: the mask is {} x {} pixels and the "
            "picture {} x {}.".format(*mask.uploaded_size, *picture.uploaded_size),
        )
    return UploadedPicture(
        png=picture.png,
        width=picture.width,
        height=picture.height,
        has_alpha=picture.has_alpha,
        sha256=hashlib.sha256(picture.png).hexdigest(),
        mask_png=mask.png if mask is not None else None,
    )


def _decode_in_turn(
    service: Service, parts: Sequence[_Part], *, settings: Settings
) -> list[_Decoded]:
    if not service.decoders.acquire(timeout=settings.decode_seconds):
        raise Unavailable(
            "decoders-busy", "Too many pictures are being decoded at this moment. Try again soon."
        )
    try:
        return _decode(parts, settings=settings)
    finally:
        service.decoders.release()


def _decode(parts: Sequence[_Part], *, settings: Settings) -> list[_Decoded]:
    """Decode all parts in one process, and name the first one that does not come back well."""
    for part in parts:
        _check_size(part, limit=settings.max_picture_bytes)
    output = _run_decoder(parts, settings=settings)
    decoded = []
    position = 0
    for part in parts:
        if len(output) < position + 4:
            # The process ended here: out of memory, out of time, or a crash in a decoder.
            raise invalid(
                part.pointer,
                "This picture needs too much memory or time to decode. "
                "Save it again as an ordinary PNG or JPEG and send that.",
            )
        (length,) = struct.unpack_from(">I", output, position)
        header = json.loads(output[position + 4 : position + 4 + length])
        position += 4 + length
        if "error" in header:
            raise _refusal(part, header)
        png = output[position : position + header["bytes"]]
        position += header["bytes"]
        if len(png) < header["bytes"]:
            raise invalid(part.pointer, "This picture could not be decoded completely.")
        decoded.append(
            _Decoded(
                png=png,
                width=header["width"],
                height=header["height"],
                has_alpha=header["has_alpha"],
                uploaded_size=tuple(header["uploaded_size"]),
            )
        )
    return decoded


def _refusal(part: _Part, header: dict[str, Any]) -> ServiceError:
    if header["error"] == "media":
        return UnsupportedMedia("unsupported-picture", header["detail"], pointer=part.pointer)
    return invalid(part.pointer, header["detail"])


def _run_decoder(parts: Sequence[_Part], *, settings: Settings) -> bytes:
    limits = {
        "max_pixels": settings.max_picture_pixels,
        "min_side": settings.min_picture_side,
        "stored_side": STORED_SIDE_PIXELS,
        "memory_bytes": _memory_bytes(settings),
        "cpu_seconds": int(settings.decode_seconds) + 1,
    }
    header = json.dumps({"limits": limits, "roles": [part.role for part in parts]}).encode()
    frames = [header, *(part.data for part in parts)]
    request = b"".join(
        piece for frame in frames for piece in (struct.pack(">I", len(frame)), frame)
    )
    # Isolated (-I): neither the environment nor the working folder decides what is imported.
    command = [sys.executable, "-I", str(_DECODER)]
    try:
        done = subprocess.run(
            command,
            input=request,
            capture_output=True,
            timeout=settings.decode_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return error.stdout or b""
    except OSError as error:
        raise Unavailable(
            "decoder-unavailable", "Pictures cannot be decoded at this moment. Try again soon."
        ) from error
    return done.stdout


def _memory_bytes(settings: Settings) -> int:
    # Interpreter and libraries, then the decoded picture in up to four copies of 4 bytes a pixel.
    return 512 * _MEBIBYTE + 16 * settings.max_picture_pixels

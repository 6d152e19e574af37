"""The process that decodes uploaded pictures; only decoder.py starts it.

The process runs one module of this product, decoding.py, which needs Pillow alone. It exchanges
frames over stdin and stdout: four bytes of length, then the bytes. The process reads the limits as
JSON, then the role and the bytes of each file. For each file the process writes a JSON header, then
the PNG.

The process starts with an empty environment and a low priority. Before reading the first byte of a
file, the process limits its own memory and time. From then on, the process cannot open files,
sockets or pipes. If the kernel allows it, the process also moves to its own empty network, as a
user without privileges.
"""

import ctypes
import importlib.util
import io
import json
import resource
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

from PIL import (
    Image,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

_MAX_ASPECT = 32
_JPEGS = ("JPEG", "MPO")  # MPO: a camera's JPEG with a second picture (depth, brightness)
# Pillow imports these for the first picture, which is too late: files cannot be opened by then.
_IMPORTED = (
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
_OPEN_FILES = 3
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


def _load_decoding() -> Any:
    """Return perfusion_core.pictures.decoding, by its file: -I leaves the package off the path."""
    file = Path(__file__).parents[2] / "perfusion_core" / "pictures" / "decoding.py"
    spec = importlib.util.spec_from_file_location("decoding", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


decoding = _load_decoding()
_READS_HEIF = decoding.register_heif()
_FULL_SIZE = ("photo", "white", "transparent")  # the roles of an edit's files
# What a mask must have at least of white, and what is said to a mask that has less.
_LEAST_WHITE = {"mask": 1, "white": decoding.WHITE_FROM, "transparent": decoding.WHITE_FROM}
_EMPTY = {
    "mask": "This mask is black all over. White must mark the object.",
    "white": "This mask is empty. Paint white what is to be painted anew; grey counts as white "
    f"from {decoding.WHITE_FROM} on.",
    "transparent": "This mask is empty. Make transparent what is to be painted anew.",
}
_FORMATS = (*decoding.FORMATS, *([decoding.HEIF] if _READS_HEIF else []))
# The errors by which Pillow and pi-heif say that a file is damaged.
_DAMAGED = (
    OSError, ValueError, SyntaxError, struct.error, EOFError, IndexError, KeyError, RuntimeError,
)  # fmt: skip


class PictureRefused(Exception):
    """A file that is not accepted; `kind` is `media` or `invalid`."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


def main() -> None:
    """Read, decode and answer one file after the other, until the last or a refused one."""
    source, target = sys.stdin.buffer, sys.stdout.buffer
    isolate()
    limits = json.loads(_read_frame(source))
    _bound(limits)
    while role := _read_frame(source).decode():
        try:
            header, png = _convert(_read_frame(source), role=role, limits=limits)
        except PictureRefused as refusal:
            header, png = {"error": refusal.kind, "detail": str(refusal)}, b""
        except MemoryError:
            header, png = {"error": "invalid", "detail": "This picture needs too much memory."}, b""
        _write_frame(target, json.dumps(header).encode())
        target.write(png)
        target.flush()
        if "error" in header:
            return


def isolate() -> None:
    """Give up files, network and privileges, as far as this system allows it."""
    Image.preinit()  # imports what decoding needs, while files can still be opened
    _leave_network()
    # Three descriptors are open; a fourth is impossible.
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _leave_network() -> bool:
    """Move to an empty network as a user without rights; return whether that is allowed here."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return bool(libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0)


def _bound(limits: dict[str, Any]) -> None:
    memory = limits["memory_bytes"]
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    seconds = limits["cpu_seconds"]
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    Image.MAX_IMAGE_PIXELS = None  # _check_header has a limit for each format


def _convert(data: bytes, *, role: str, limits: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    opened = _open(data, role=role, limits=limits)
    width, height = opened.size  # before decoding shrinks it
    image = _decode(opened, role=role, limits=limits)
    uploaded_size = (height, width) if decoding.is_sideways(opened) else (width, height)
    texts = PngImagePlugin.PngInfo()
    for key, value in image.info.items():  # decoding.PROFILE_MARK or nothing
        texts.add_text(str(key), value)
    buffer = io.BytesIO()
    # Large files take long, so those at full size are compressed fast.
    level = 1 if role in _FULL_SIZE else 3
    image.save(buffer, "PNG", compress_level=level, pnginfo=texts)
    header = {
        "bytes": buffer.tell(),
        "width": image.width,
        "height": image.height,
        "has_alpha": image.mode == "RGBA",
        "uploaded_size": uploaded_size,
    }
    return header, buffer.getvalue()


def _open(data: bytes, *, role: str, limits: dict[str, Any]) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        raise PictureRefused("media", _no_picture(data)) from None
    except _DAMAGED:
        raise _damaged() from None
    _check_header(image, role=role, limits=limits)
    return image


def _decode(opened: Image.Image, *, role: str, limits: dict[str, Any]) -> Image.Image:
    longest_side = max(opened.size) if role in _FULL_SIZE else limits["stored_side"]
    try:
        match role:
            case "photo":
                image: Image.Image = decoding.decode_whole(opened)
            case "transparent":
                image = decoding.decode_transparency(opened)
            case "picture":
                image = decoding.decode(opened, longest_side=longest_side)
            case _:
                image = decoding.decode_mask(opened, longest_side=longest_side)
    except _DAMAGED:
        raise _damaged() from None
    if role == "picture" and image.mode == "RGBA" and image.getchannel("A").getextrema()[1] == 0:
        raise PictureRefused(
            "invalid", "This picture is completely transparent: there is nothing on it."
        )
    if image.mode == "L" and image.getextrema()[1] < _LEAST_WHITE[role]:
        raise PictureRefused("invalid", _EMPTY[role])
    return image


def _check_header(image: Image.Image, *, role: str, limits: dict[str, Any]) -> None:
    width, height = image.size
    most = limits["max_pixels"]
    if image.format in _JPEGS:
        most = limits["max_jpeg_pixels"]
    elif role in _EMPTY:  # a mask is as large as its picture, which may be a JPEG
        most = max(most, limits["max_jpeg_pixels"])
    if width * height > most:
        raise PictureRefused(
            "invalid", f"This picture has more than {most} pixels. Send a smaller version of it."
        )
    if min(width, height) < limits["min_side"]:
        raise PictureRefused(
            "invalid",
            f"This picture is {width} x {height} pixels; each side must have at least "
            f"{limits['min_side']}.",
        )
    if max(width, height) > _MAX_ASPECT * min(width, height):
        raise PictureRefused(
            "invalid",
            f"This picture is {width} x {height} pixels: too long and thin.",
        )
    # The first picture of a camera's JPEG counts, and the main picture of a HEIC.
    if image.format not in ("MPO", decoding.HEIF) and getattr(image, "n_frames", 1) != 1:
        raise PictureRefused("invalid", "This picture is animated. Send a single frame of it.")


def _no_picture(data: bytes) -> str:
    if not _READS_HEIF and decoding.is_heif(data[:12]):
        return "This server does not read HEIC pictures. Save this one as JPEG and send that."
    formats = "JPEG, PNG, WebP or HEIC" if _READS_HEIF else "JPEG, PNG or WebP"
    return f"This is not a {formats} picture, whatever its name says."


def _damaged() -> PictureRefused:
    return PictureRefused(
        "invalid", "This picture is damaged or incomplete. Save it again and send that."
    )


def _read_frame(source: BinaryIO) -> bytes:
    prefix = source.read(4)
    return source.read(int.from_bytes(prefix, "big"))


def _write_frame(target: BinaryIO, data: bytes) -> None:
    target.write(struct.pack(">I", len(data)))
    target.write(data)


if __name__ == "__main__":
    main()

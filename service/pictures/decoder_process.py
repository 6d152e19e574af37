"""The process that decodes uploaded pictures; only decoder.py starts it.

The process imports nothing of this product and exchanges frames over stdin and stdout: four bytes
of length, then the bytes. The process reads the limits as JSON, then the role and the bytes of each
file. For each file the process writes a JSON header, then the PNG.

The process starts with an empty environment and a low priority. Before reading the first byte of a
file, the process limits its own memory and time. From then on, the process cannot open files,
sockets or pipes. If the kernel allows it, the process also moves to its own empty network, as a
user without privileges.
"""

import ctypes
import io
import json
import resource
import struct
import sys
import warnings
from typing import Any, BinaryIO

from PIL import (
    Image,
    ImageOps,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

_FORMATS = ("JPEG", "PNG", "WEBP")
_OPAQUE = 255
_MAX_ASPECT = 32
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
    Image.MAX_IMAGE_PIXELS = limits["max_pixels"]
    # By default, Pillow only warns about sizes between the limit and twice the limit.
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def _convert(data: bytes, *, role: str, limits: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    image = _decode(data, limits=limits)
    uploaded_size = image.size
    image = _flat(image) if role == "picture" else _grey(image)
    if max(image.size) > limits["stored_side"]:
        image.thumbnail((limits["stored_side"],) * 2, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    header = {
        "bytes": buffer.tell(),
        "width": image.width,
        "height": image.height,
        "has_alpha": image.mode == "RGBA",
        "uploaded_size": uploaded_size,
    }
    return header, buffer.getvalue()


def _decode(data: bytes, *, limits: dict[str, Any]) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        raise PictureRefused(
            "media", "This is not a JPEG, PNG or WebP picture, whatever its name says."
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels(limits) from None
    except (OSError, ValueError, SyntaxError, struct.error):
        raise _damaged() from None
    _check_header(image, limits=limits)
    try:
        image.load()
        turned = ImageOps.exif_transpose(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels(limits) from None
    except (OSError, ValueError, SyntaxError, struct.error, EOFError, IndexError, KeyError):
        raise _damaged() from None
    return turned


def _check_header(image: Image.Image, *, limits: dict[str, Any]) -> None:
    width, height = image.size
    if width * height > limits["max_pixels"]:
        raise _too_many_pixels(limits)
    if min(width, height) < limits["min_side"]:
        raise PictureRefused(
            "invalid",
            f"This picture is {width} x {height} pixels; each side must have at least "
            f"{limits['min_side']}.",
        )
    if max(width, height) > _MAX_ASPECT * min(width, height):
        raise PictureRefused(
            "invalid",
            f"This picture is {width} x {height} pixels: too long and thin to learn from.",
        )
    # Cameras append a second picture (depth, brightness) to a JPEG; only the first one counts.
    if image.format != "MPO" and getattr(image, "n_frames", 1) != 1:
        raise PictureRefused("invalid", "This picture is animated. Send a single frame of it.")


def _flat(image: Image.Image) -> Image.Image:
    """Return RGBA if some pixel is transparent, else RGB, without metadata."""
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bits(image).convert("RGB")
    if not image.has_transparency_data:
        return _bare(image.convert("RGB"))
    image = image.convert("RGBA")
    low, high = image.getchannel("A").getextrema()
    if low == _OPAQUE:
        return _bare(image.convert("RGB"))
    if high == 0:
        raise PictureRefused(
            "invalid", "This picture is completely transparent: there is nothing on it."
        )
    return _bare(image)


def _grey(image: Image.Image) -> Image.Image:
    """Return a mask in grey: white pixels are the object, and transparent pixels count as black."""
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image)
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    image = image.convert("L")
    if image.getextrema()[1] == 0:
        raise PictureRefused("invalid", "This mask is black all over. White must mark the object.")
    return _bare(image)


def _eight_bits(image: Image.Image) -> Image.Image:
    # Keep the high byte of PNG's 16-bit grey; convert() alone would clip everything above 255.
    return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")


def _bare(image: Image.Image) -> Image.Image:
    image.info.clear()
    return image


def _too_many_pixels(limits: dict[str, Any]) -> PictureRefused:
    return PictureRefused(
        "invalid",
        f"This picture has more than {limits['max_pixels']} pixels. Send a smaller version of it.",
    )


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

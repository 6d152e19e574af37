"""Run the process that decodes uploaded pictures: start it, limit it, end it, exchange data.

One process decodes the pictures of one upload, one after the other, so that neither side ever holds
more than one picture in memory. The process has an empty environment, a low priority, and no way to
open a file or a connection (see decoder_process.py). An answer is read only up to the size of the
largest picture.
"""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import IO, Any, BinaryIO

from perfusion_core.pictures.decoding import LONGEST_SIDE_PIXELS
from service.errors import ServiceError, Unavailable, UnsupportedMedia, invalid
from service.settings.environment import Settings

STORED_SIDE_PIXELS = LONGEST_SIDE_PIXELS
"""The longest side that is stored; larger pictures and their masks are shrunk to it."""

_DECODER = Path(__file__).with_name("decoder_process.py")
_MEBIBYTE = 1024**2
_PIECE_BYTES = 64 * 1024
_MAX_HEADER_BYTES = 64 * 1024
# A lower priority than the API, whose requests take milliseconds, but high enough to run next to a
# training.
_NICENESS = 5
# Seconds of wall-clock time per processor second: at low priority the process may have to wait.
_CLOCK_FACTOR = 4


@dataclass(frozen=True)
class Part:
    """One file of an upload. Errors contain `pointer`.

    `role` is `picture` or `mask`; files of an edit are a `photo` and a mask, `white` or
    `transparent` where it is painted anew.
    """

    pointer: str
    role: str
    source: BinaryIO
    size_bytes: int


@dataclass(frozen=True)
class Decoded:
    """A part as PNG, and its size before it was shrunk."""

    png: bytes
    width: int
    height: int
    has_alpha: bool
    uploaded_size: tuple[int, int]


def longest_seconds(settings: Settings) -> float:
    """Return how many seconds the pictures of one upload may occupy a decoder."""
    return _CLOCK_FACTOR * settings.decode_seconds


@contextmanager
def running(settings: Settings, *, full_size: bool = False) -> Iterator["Decoder"]:
    """Run a decoder for the pictures of one upload; the decoder ends with the block.

    With `full_size` it takes the roles of an edit's files, and the pictures are not shrunk.
    """
    # -I: neither the environment nor the working folder decides what is imported.
    command = [sys.executable, "-I", str(_DECODER)]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            # A process group, so that no child process survives the decoder. Not a session: Linux
            # gives sessions equal shares (autogroups) and ignores the niceness between sessions.
            process_group=0,
        )
    except OSError as error:
        raise Unavailable(
            "decoder-unavailable", "Pictures cannot be decoded at this moment. Try again soon."
        ) from error
    # Set from here while the process starts, because starting takes as long as decoding a picture.
    os.setpriority(os.PRIO_PROCESS, process.pid, _niceness())
    try:
        yield Decoder(process, settings, full_size=full_size)
    finally:
        _end(process)
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):  # flushing what was not sent
                pipe.close()  # type: ignore[union-attr]
        process.wait()


class Decoder:
    """Decodes parts one after the other, within the time that the settings allow an upload."""

    def __init__(
        self, process: subprocess.Popen[bytes], settings: Settings, *, full_size: bool
    ) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process = process
        self._in, self._out = process.stdin, process.stdout
        self._left_s = longest_seconds(settings)
        most_pixels = max(settings.max_picture_pixels, settings.max_jpeg_pixels)
        self._longest_side = most_pixels if full_size else STORED_SIDE_PIXELS
        # Four incompressible bytes per pixel, plus the overhead of PNG.
        pixels = most_pixels if full_size else STORED_SIDE_PIXELS**2
        self._most_bytes = 4 * pixels + _MEBIBYTE
        self._limits: dict[str, Any] | None = {
            "max_pixels": settings.max_picture_pixels,
            "max_jpeg_pixels": settings.max_jpeg_pixels,
            "min_side": settings.min_picture_side,
            "stored_side": STORED_SIDE_PIXELS,
            "memory_bytes": _memory_bytes(settings, full_size=full_size),
            "cpu_seconds": int(settings.decode_seconds) + 1,
        }

    def decode(self, part: Part) -> Decoded:
        """Return the part as PNG; raise Invalid or UnsupportedMedia with the part's pointer."""
        begun_s = time.monotonic()
        watchdog = Timer(max(0.0, self._left_s), _end, [self._process])
        watchdog.start()
        try:
            self._send(part)
            header = json.loads(self._read(self._read_length(most=_MAX_HEADER_BYTES)))
            if "error" in header:
                raise _refusal(part, header)
            width, height = header["uploaded_size"]
            decoded = Decoded(
                png=self._read(_size(header["bytes"], most=self._most_bytes)),
                width=_size(header["width"], most=self._longest_side),
                height=_size(header["height"], most=self._longest_side),
                has_alpha=bool(header["has_alpha"]),
                uploaded_size=(int(width), int(height)),
            )
        except (OSError, EOFError, ValueError, KeyError, TypeError):
            # The process has ended (out of memory, out of time, a crash in a decoder), or its
            # answer is malformed because a malicious picture controls the process.
            raise invalid(
                part.pointer,
                "This picture needs too much memory or time to decode. "
                "Save it again as an ordinary PNG or JPEG and send that.",
            ) from None
        finally:
            watchdog.cancel()
            self._left_s -= time.monotonic() - begun_s
        return decoded

    def _send(self, part: Part) -> None:
        if self._limits is not None:
            _write_frame(self._in, json.dumps(self._limits).encode())
            self._limits = None
        _write_frame(self._in, part.role.encode())
        self._in.write(struct.pack(">I", part.size_bytes))
        part.source.seek(0)
        shutil.copyfileobj(part.source, self._in, _PIECE_BYTES)
        self._in.flush()

    def _read_length(self, *, most: int) -> int:
        (length,) = struct.unpack(">I", self._read(4))
        return _size(length, most=most)

    def _read(self, length: int) -> bytes:
        data = self._out.read(length)
        if len(data) < length:
            raise EOFError
        return data


def _size(value: Any, *, most: int) -> int:
    if not isinstance(value, int) or not 0 < value <= most:
        raise ValueError("no size of a picture")
    return value


def _write_frame(target: IO[bytes], data: bytes) -> None:
    target.write(struct.pack(">I", len(data)))
    target.write(data)


def _refusal(part: Part, header: dict[str, Any]) -> ServiceError:
    if header["error"] == "media":
        return UnsupportedMedia("unsupported-picture", str(header["detail"]), pointer=part.pointer)
    return invalid(part.pointer, str(header["detail"]))


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _niceness() -> int:
    return min(os.getpriority(os.PRIO_PROCESS, 0) + _NICENESS, 19)


def _memory_bytes(settings: Settings, *, full_size: bool) -> int:
    # Interpreter and libraries, then the decoded picture in up to four copies of 4 bytes a pixel. A
    # JPEG is decoded at less than twice the stored side; if it is progressive, its coefficients, up
    # to 6 bytes a pixel, lie in memory at full size.
    if full_size:  # four copies, and the PNG, whose buffer grows by copying
        pixels = max(settings.max_picture_pixels, settings.max_jpeg_pixels)
        return 512 * _MEBIBYTE + 24 * pixels
    shrunk = (2 * STORED_SIDE_PIXELS) ** 2
    jpeg = 6 * settings.max_jpeg_pixels + 16 * min(settings.max_jpeg_pixels, shrunk)
    return 512 * _MEBIBYTE + max(16 * settings.max_picture_pixels, jpeg)

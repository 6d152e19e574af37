"""Damaged, forged and enormous files are refused in time, without a crash.

Here the decoder of pictures runs in the process of the test, so that a thousand files take seconds.
It then has no limits of memory; a separate test checks these limits.
"""

import io
import json
import resource
import struct
import subprocess
import sys
import time
import warnings
import zipfile
import zlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from service.concepts import files
from service.errors import Invalid, TooLarge, UnsupportedMedia
from service.pictures import decoder as decoding
from service.pictures import decoder_process
from service.pictures.decoder import Decoded, Part
from service.settings.environment import Settings
from tests.security.conftest import Scene, bearer
from tests.unit.api.checks import refusal
from tests.unit.service import staging

pytestmark = pytest.mark.servers
LIMITS = {
    "max_pixels": 1_000_000, "max_jpeg_pixels": 1_500_000, "min_side": 8, "stored_side": 256,
}  # fmt: skip
_SLOWEST_SECONDS = 5
quick = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def seeds() -> list[bytes]:
    """Return good pictures of every accepted kind."""
    plain, clear = staging.picture(), staging.picture(alpha=True)
    palette, deep = plain.convert("P"), Image.new("I;16", (40, 40), 9)
    kinds = [(plain, "PNG"), (plain, "JPEG"), (plain, "WEBP"), (clear, "PNG"), (clear, "WEBP")]
    kinds += [(palette, "PNG"), (deep, "PNG"), (plain.convert("CMYK"), "JPEG")]
    return [staging.encoded(image, kind) for image, kind in kinds]


SEEDS = seeds()
CONCEPTS = [
    staging.core_concept(evaluation=found, **of_format_1).to_bytes()
    for found in (None, staging.evaluation())
    for of_format_1 in ({}, {"e_super": None})
]


@st.composite
def damaged(draw: st.DrawFn, sources: list[bytes]) -> bytes:
    """Draw a good file with bytes changed, cut out, doubled or cut off."""
    data = bytearray(draw(st.sampled_from(sources)))
    for _ in range(draw(st.integers(1, 6))):
        if not data:
            break
        # Most changes go to the header, which holds lengths and sizes.
        end = draw(st.sampled_from([min(64, len(data)), len(data)]))
        at = draw(st.integers(0, end - 1))
        match draw(st.sampled_from(["byte", "word", "cut", "double", "end"])):
            case "byte":
                data[at] = draw(st.integers(0, 255))
            case "word":
                value = draw(st.sampled_from([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF]))
                data[at : at + 4] = struct.pack(draw(st.sampled_from([">I", "<I"])), value)
            case "cut":
                del data[at : at + draw(st.integers(1, 64))]
            case "double":
                data[at:at] = data[at : at + draw(st.integers(1, 64))]
            case "end":
                del data[at:]
    return bytes(data)


def mended(data: bytes) -> bytes:
    """Return a PNG with right checksums, so that the decoder reads its damage."""
    out, at = data[:8], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        if len(body) < 4 + length:
            break
        out += struct.pack(">I", length) + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return out + data[at:]


def decode(data: bytes, role: str) -> None:
    """Decode as the decoder's process does, or be refused."""
    Image.MAX_IMAGE_PIXELS = None
    begun = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            header, png = decoder_process._convert(data, role=role, limits=LIMITS)
        except decoder_process.PictureRefused as refusal:
            assert refusal.kind in ("media", "invalid")
            assert str(refusal).endswith(".")
        else:
            with Image.open(io.BytesIO(png)) as image:
                image.load()
                assert image.info == {}
                assert image.size == (header["width"], header["height"])
                assert max(image.size) <= LIMITS["stored_side"]
    assert time.monotonic() - begun < _SLOWEST_SECONDS


@quick
@given(data=damaged(SEEDS), role=st.sampled_from(["picture", "mask"]))
def test_a_damaged_picture_is_decoded_or_refused(data: bytes, role: str) -> None:
    decode(data, role)


@quick
@given(data=damaged(SEEDS[:1] + SEEDS[3:4] + SEEDS[5:7]).map(mended))
def test_a_forged_png_with_right_checksums_is_decoded_or_refused(data: bytes) -> None:
    decode(data, "picture")


def png_of(width: int, height: int, rows: bytes) -> bytes:
    """Return a PNG that claims a size, whatever its rows hold."""
    chunks = b"\x89PNG\r\n\x1a\n"
    for kind, body in (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", rows),
        (b"IEND", b""),
    ):
        chunks += struct.pack(">I", len(body)) + kind + body
        chunks += struct.pack(">I", zlib.crc32(kind + body))
    return chunks


def polyglots() -> dict[str, bytes]:
    """Return pictures that are also other files."""
    jpeg, png = SEEDS[1], SEEDS[0]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../etc/x", b"x" * 1000)
    script = b"<script>alert(1)</script>"
    return {
        "zip behind a jpeg": jpeg + archive.getvalue(),
        "script behind a png": png + script,
        "script in a comment": jpeg[:2] + b"\xff\xfe" + struct.pack(">H", 2 + len(script))
        + script + jpeg[2:],
    }  # fmt: skip


def bombs() -> dict[str, bytes]:
    """Return small files that claim to be large."""
    return {
        "30000 x 30000": png_of(30_000, 30_000, zlib.compress(b"\0" * 1000)),
        "four thousand million": png_of(0xFFFFFFFF, 0xFFFFFFFF, b""),
        "nothing": png_of(0, 0, b""),
        "a lie about rows": png_of(4000, 4000, zlib.compress(b"\0" * 10_000_000, 9)),
        "text bomb": SEEDS[0][:33] + _text_bomb() + SEEDS[0][33:],
    }


def _text_bomb() -> bytes:
    body = b"zTXt" + b"a\0\0" + zlib.compress(b"\0" * 80_000_000, 9)
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def decoded(data: bytes) -> Decoded:
    with decoding.running(Settings()) as process:
        return process.decode(Part("/images/0", "picture", io.BytesIO(data), len(data)))


@pytest.mark.parametrize("name", sorted(bombs()))
def test_a_bomb_goes_off_in_a_process_of_its_own(name: str) -> None:
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((Invalid, UnsupportedMedia)) as refused:
        decoded(bombs()[name])
    assert refused.value.errors[0].pointer == "/images/0"
    assert time.monotonic() - begun < Settings().decode_seconds + 5
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100 * 1024  # KiB


@pytest.mark.parametrize("name", sorted(polyglots()))
def test_of_a_polyglot_only_the_picture_is_kept(name: str) -> None:
    kept = decoded(polyglots()[name]).png
    assert b"script" not in kept
    assert b"etc/x" not in kept
    with Image.open(io.BytesIO(kept)) as image:
        assert image.info == {}


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a" + b"\0" * 50, b"%PDF-1.7", b"<svg xmlns='x'/>", b"%!PS-Adobe-3.0 EPSF"]
)
def test_what_is_no_picture_is_refused_over_http(scene: Scene, data: bytes) -> None:
    answer = scene.client.post(
        "/concepts",
        files={"images": ("rex.png", data, "image/png")},
        data={"name": "other", "superclass": "bear"},
        headers=bearer(scene.key),
    )
    refusal(answer, 415 if data else 422)


@st.composite
def forged_headers(draw: st.DrawFn) -> bytes:
    """Draw a concept file with a forged header: shapes, offsets, types, metadata."""
    concept = draw(st.sampled_from(CONCEPTS))
    (length,) = struct.unpack("<Q", concept[:8])
    header: dict[str, Any] = json.loads(concept[8 : 8 + length])
    body = concept[8 + length :]
    numbers = st.sampled_from([-1, 0, 1, 2**31, 2**63, 10**30, 1.5, None, "1", True])
    junk = st.one_of(numbers, st.text(max_size=20), st.lists(numbers, max_size=4))
    for _ in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from([*header, "another"]))
        if name == "__metadata__" or name not in header:
            metadata = header.setdefault("__metadata__", {})
            if isinstance(metadata, dict):
                metadata[draw(st.sampled_from([*metadata, "x"]))] = draw(junk)
            continue
        if not isinstance(header[name], dict):
            continue
        key = draw(st.sampled_from(["dtype", "shape", "data_offsets", "extra"]))
        value = draw(st.one_of(junk, st.lists(numbers, min_size=2, max_size=2)))
        if draw(st.booleans()):
            header[name][key] = value
        else:
            header[name] = value
    text = json.dumps(header).encode() + b" " * draw(st.integers(0, 8))
    size = draw(st.sampled_from([len(text), len(text) - 1, 0, 2**40, 2**63]))
    return struct.pack("<Q", size) + text + body[: draw(st.integers(0, len(body)))]


@quick
@given(data=st.one_of(damaged(CONCEPTS), forged_headers(), st.binary(max_size=400)))
def test_a_concept_file_is_read_or_refused(data: bytes) -> None:
    begun = time.monotonic()
    try:
        files.read_concept(data)
    except (Invalid, TooLarge) as error:
        assert error.detail.endswith((".", "!", "?"))
    assert time.monotonic() - begun < _SLOWEST_SECONDS


@settings(parent=quick, max_examples=60)
@given(data=st.one_of(damaged(CONCEPTS), forged_headers()))
def test_no_concept_file_makes_the_server_stumble(scene: Scene, data: bytes) -> None:
    answer = scene.client.post(
        "/concepts/import", files={"file": ("a", data)}, headers=bearer(scene.key)
    )
    assert answer.status_code in (201, 409, 413, 415, 422), answer.text
    assert "Traceback" not in answer.text


def test_the_decoder_ends_with_its_memory_and_its_time() -> None:
    """The decoder's process has limits, which the tests above do without."""
    limits = {**LIMITS, "max_pixels": 10**9, "memory_bytes": 256 * 1024**2, "cpu_seconds": 10}
    bomb = png_of(20_000, 20_000, zlib.compress(b"\0" * 20_000_000))
    frames = b"".join(
        struct.pack(">I", len(frame)) + frame
        for frame in (json.dumps(limits).encode(), b"picture", bomb)
    )
    command = [sys.executable, "-I", decoder_process.__file__]
    done = subprocess.run(command, input=frames, capture_output=True, timeout=60, check=False)
    (length,) = struct.unpack_from(">I", done.stdout)
    answer = json.loads(done.stdout[4 : 4 + length])
    assert answer["detail"] == "This picture needs too much memory."

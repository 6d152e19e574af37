"""Uploaded pictures are re-encoded, or refused with a sentence that says why."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from service.errors import Invalid, ServiceError, TooLarge, UnsupportedMedia
from service.pictures import decoder
from service.pictures.uploads import UploadedPicture, read_pictures
from service.wiring import Service
from tests.unit.service.staging import encoded, picture

GOOD = encoded(picture())


def opened(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    image.load()
    assert image.format == "PNG"
    return image


def read_picture(service: Service, data: bytes) -> UploadedPicture:
    [result] = read_pictures(service, images=[data])
    return result


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png(*, side: int = 30_000) -> bytes:
    """Return a PNG of 900 megapixels in about 110 KB: one bit per pixel, all black."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    row = bytes(1 + (side + 7) // 8)
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def animated(kind: str) -> bytes:
    frames = [picture(seed=seed) for seed in range(3)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)


def text_bomb() -> bytes:
    bomb = b"comment\0\0" + zlib.compress(bytes(200 * 1024**2), 9)
    return GOOD[:33] + chunk(b"zTXt", bomb) + GOOD[33:]


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><rect/></svg>'
MEDIA = {
    "SVG named .png": SVG,
    "text named .png": b"this is not a picture at all, but it is long enough" * 3,
    "GIF": encoded(picture(), "GIF"),
    "TIFF": encoded(picture(), "TIFF"),
    "BMP": encoded(picture(), "BMP"),
    "EPS": encoded(picture(), "EPS"),
    "PDF": b"%PDF-1.7\n",
    "zip": b"PK\x03\x04" + bytes(64),
    "PNG signature alone": b"\x89PNG\r\n\x1a\n",
}
BROKEN = {
    "truncated JPEG": encoded(picture(size=(200, 200)), "JPEG")[:2000],
    "truncated PNG": GOOD[: len(GOOD) // 2],
    "truncated WebP": encoded(picture(), "WEBP", lossless=True)[:400],
    "PNG with a wrong checksum": GOOD[:60] + bytes([GOOD[60] ^ 255]) + GOOD[61:],
    "zTXt bomb": text_bomb(),
    "animated WebP": animated("WEBP"),
    "animated PNG": animated("PNG"),
    "3 x 3": encoded(picture(size=(3, 3))),
    "31 x 500": encoded(picture(size=(31, 500))),
    "33 x 2000": encoded(picture(size=(33, 2000))),
    "transparent all over": encoded(Image.new("RGBA", (64, 64), (9, 9, 9, 0))),
    "empty": b"",
}


@pytest.mark.parametrize("data", MEDIA.values(), ids=MEDIA.keys())
def test_what_is_no_jpeg_png_or_webp_is_refused(service: Service, data: bytes) -> None:
    with pytest.raises(ServiceError) as caught:
        list(read_pictures(service, images=[GOOD, data]))
    assert isinstance(caught.value, (UnsupportedMedia, Invalid))
    assert caught.value.errors[0].pointer == "/images/1"
    if data[:4] != b"\x89PNG":
        assert isinstance(caught.value, UnsupportedMedia)


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_a_picture_that_cannot_be_learned_from_is_refused(service: Service, data: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        read_picture(service, data)
    [error] = caught.value.errors
    assert error.pointer == "/images/0"
    assert error.detail.endswith(".")


def test_a_picture_of_900_megapixels_is_refused_before_it_is_decoded(service: Service) -> None:
    data = huge_png()
    assert len(data) < 150_000
    with pytest.raises(Invalid, match="more than 40000000 pixels"):
        read_picture(service, data)


def test_a_picture_just_over_the_limit_is_refused_too(
    make_service: Callable[..., Service],
) -> None:
    service = make_service(max_picture_pixels=100 * 100)
    read_picture(service, encoded(picture(size=(100, 100))))
    with pytest.raises(Invalid, match="more than 10000 pixels"):
        read_picture(service, encoded(picture(size=(101, 100))))


def test_a_decoder_that_needs_too_much_memory_is_the_pictures_fault(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "_memory_bytes", lambda settings, **_: 200 * 1024**2)
    data = encoded(Image.new("RGB", (6000, 6000)))  # a JPEG would be shrunk while it is decoded
    with pytest.raises(Invalid, match="memory") as caught:
        list(read_pictures(service, images=[GOOD, data, GOOD]))
    assert caught.value.errors[0].pointer == "/images/1"


def test_a_decoder_that_crashes_takes_nothing_with_it(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    crashing = tmp_path / "decoder.py"
    crashing.write_text("import os, sys; sys.stdin.buffer.read(4); os.abort()")
    monkeypatch.setattr(decoder, "_DECODER", crashing)
    with pytest.raises(Invalid) as caught:
        read_picture(service, GOOD)
    assert caught.value.errors[0].pointer == "/images/0"


@pytest.mark.slow
def test_a_decoder_that_takes_too_long_is_ended(
    make_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    endless = tmp_path / "decoder.py"
    endless.write_text("while True: pass")
    monkeypatch.setattr(decoder, "_DECODER", endless)
    with pytest.raises(Invalid, match="time"):
        read_picture(make_service(decode_seconds=1), GOOD)


def test_a_file_over_the_limit_is_too_large(make_service: Callable[..., Service]) -> None:
    service = make_service(max_picture_bytes=len(GOOD))
    read_picture(service, GOOD)
    with pytest.raises(TooLarge) as caught:
        list(read_pictures(service, images=[GOOD, GOOD + b"x"]))
    assert caught.value.errors[0].pointer == "/images/1"


def test_one_wrong_picture_of_several_is_named(service: Service) -> None:
    images = [GOOD, GOOD, BROKEN["truncated JPEG"], GOOD]
    with pytest.raises(Invalid) as caught:
        list(read_pictures(service, images=images))
    assert [error.pointer for error in caught.value.errors] == ["/images/2"]


@pytest.mark.parametrize("number", [0, 21])
def test_there_are_one_to_twenty_pictures(service: Service, number: int) -> None:
    with pytest.raises(Invalid) as caught:
        list(read_pictures(service, images=[GOOD] * number))
    assert caught.value.errors[0].pointer == "/images"


def test_a_lossless_picture_keeps_its_pixels(service: Service) -> None:
    for image in (picture(), picture(alpha=True)):
        result = read_picture(service, encoded(image))
        np.testing.assert_array_equal(np.asarray(opened(result.png)), np.asarray(image))
        assert (result.width, result.height) == image.size
        assert result.has_alpha == (image.mode == "RGBA")


def test_metadata_is_gone_and_the_orientation_applied(service: Service) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    exif[0x010E] = "my address"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 0.0)
    image = Image.new("RGB", (80, 40), "red")
    image.paste("blue", (0, 0, 40, 40))
    result = read_picture(service, encoded(image, "JPEG", exif=exif, quality=95))
    clean = opened(result.png)
    assert (result.width, result.height) == clean.size == (40, 80)
    assert clean.getpixel((20, 10))[2] > 200  # type: ignore[index]
    assert clean.info == {}
    assert not clean.getexif()
    assert b"my address" not in result.png


def test_text_and_trailing_bytes_are_gone(service: Service) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "<script>")
    data = encoded(picture(), pnginfo=info) + b"PK\x03\x04<script>"
    assert b"<script>" not in read_picture(service, data).png


def test_alpha_is_kept_only_where_it_says_something(service: Service) -> None:
    opaque = picture()
    opaque.putalpha(255)
    assert not read_picture(service, encoded(opaque)).has_alpha
    cut_out = picture()
    cut_out.putalpha(Image.linear_gradient("L").resize(cut_out.size))
    for kind in ("PNG", "WEBP"):
        result = read_picture(service, encoded(cut_out, kind, lossless=True))
        assert result.has_alpha
        assert opened(result.png).mode == "RGBA"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "I;16", "CMYK", "RGB", "RGBA"])
def test_every_kind_of_pixel_becomes_rgb_or_rgba(service: Service, mode: str) -> None:
    grey = Image.linear_gradient("L").resize((64, 64))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        image = grey.convert("RGB").convert(mode) if mode != "PA" else grey.convert("LA")
    result = opened(read_picture(service, encoded(image, "JPEG" if mode == "CMYK" else "PNG")).png)
    assert result.mode in ("RGB", "RGBA")
    red = np.asarray(result)[..., 0].astype(int)
    assert red.max() - red.min() > 200


def test_a_large_picture_is_stored_smaller_with_its_mask(service: Service) -> None:
    image = encoded(Image.new("RGB", (3000, 1500), "green"), "JPEG")
    mask = encoded(Image.new("L", (3000, 1500), 255))
    [result] = read_pictures(service, images=[image], masks=[mask])
    assert (result.width, result.height) == (2048, 1024)
    assert result.mask_png is not None
    assert opened(result.mask_png).size == (2048, 1024)


def test_a_cameras_second_picture_is_ignored(service: Service) -> None:
    data = encoded(picture(), "MPO", save_all=True, append_images=[picture(seed=1)])
    assert read_picture(service, data).width == 48


def test_masks_are_grey_and_belong_to_their_picture(service: Service) -> None:
    white = Image.new("L", (48, 40), 0)
    white.paste(255, (10, 10, 20, 20))
    colour = Image.merge("RGB", (white, white, white))
    cut_out = Image.new("RGBA", (48, 40), (255, 255, 255, 0))
    cut_out.putalpha(white)
    for mask in (white, white.convert("1"), colour, cut_out, white.convert("P")):
        [result] = read_pictures(service, images=[GOOD], masks=[encoded(mask)])
        assert result.mask_png is not None
        clean = opened(result.mask_png)
        assert clean.mode == "L"
        np.testing.assert_array_equal(np.asarray(clean), np.asarray(white))


@pytest.mark.parametrize(
    ("masks", "pointer"),
    [
        ([GOOD], "/masks"),
        ([GOOD] * 3, "/masks"),
        ([GOOD, encoded(picture(size=(40, 48)))], "/masks/1"),
        ([GOOD, encoded(picture(size=(96, 80)))], "/masks/1"),
        ([GOOD, b"nothing"], "/masks/1"),
        ([encoded(Image.new("L", (48, 40), 0)), GOOD], "/masks/0"),
    ],
)
def test_masks_that_do_not_match_are_refused(
    service: Service, masks: list[bytes], pointer: str
) -> None:
    with pytest.raises(ServiceError) as caught:
        list(read_pictures(service, images=[GOOD, GOOD], masks=masks))
    assert isinstance(caught.value, (Invalid, UnsupportedMedia))
    assert caught.value.errors[0].pointer == pointer

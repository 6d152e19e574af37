"""Photos as phones save them come out right, through the library and through the service alike."""

import io
from collections.abc import Callable

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from perfusion_core.errors import PictureError
from perfusion_core.pictures import decoding
from perfusion_core.pictures.cropping import crop_around, cut
from perfusion_core.pictures.reading import open_picture
from service.errors import ServiceError, UnsupportedMedia
from service.pictures import decoder_process
from service.pictures.uploads import read_pictures
from service.wiring import Service
from tests.unit.perfusion_core.pictures.profiles import display_p3, grey_inks, p3_in_srgb
from tests.unit.service.staging import encoded

RED, GREEN = (200, 40, 40), (60, 120, 60)
TURNED = 6  # EXIF: the camera was held a quarter turn to the left
Photo = tuple[bytes, Image.Image, tuple[int, ...]]  # a file, its upright mask, the object's colour


def drawn(size: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    """Return a red thing at the right of a lawn, upright, and its mask."""
    width, height = size
    box = (width * 6 // 10, height * 3 // 10, width * 8 // 10, height * 6 // 10)
    picture, mask = Image.new("RGB", size, GREEN), Image.new("L", size, 0)
    picture.paste(RED, box)
    mask.paste(255, box)
    return picture, mask


def display_p3_photo() -> Photo:
    picture, mask = drawn((400, 300))
    data = encoded(picture, "JPEG", quality=95, icc_profile=display_p3())
    return data, mask, p3_in_srgb(RED)


def turned_photo() -> Photo:
    picture, mask = drawn((300, 400))
    exif = Image.Exif()
    exif[0x0112] = TURNED
    lying = picture.transpose(Image.Transpose.ROTATE_90)
    return encoded(lying, "JPEG", quality=95, exif=exif), mask, RED


def photo_of_48_megapixels() -> Photo:
    picture, mask = drawn((8064, 6048))
    return encoded(picture, "JPEG", quality=90), mask, RED


def heic_photo() -> Photo:
    """Return a photo as an iPhone saves it: lying, in Display P3."""
    picture, mask = drawn((300, 400))
    lying = picture.transpose(Image.Transpose.ROTATE_90)
    lying.info["icc_profile"] = display_p3()
    exif = Image.Exif()
    exif[0x0112] = TURNED
    file = io.BytesIO()
    pillow_heif.from_pillow(lying).save(file, quality=95, exif=exif.tobytes())
    return file.getvalue(), mask, p3_in_srgb(RED)


PHOTOS: dict[str, Callable[[], Photo]] = {
    "Display P3": display_p3_photo,
    "turned": turned_photo,
    "48 megapixels": photo_of_48_megapixels,
    "HEIC": heic_photo,
}


def through_the_library(service: Service, data: bytes, mask: bytes) -> list[Image.Image]:
    return [open_picture(io.BytesIO(file)) for file in (data, mask)]


def through_the_service(service: Service, data: bytes, mask: bytes) -> list[Image.Image]:
    [picture] = read_pictures(service, images=[data], masks=[mask])
    assert picture.mask_png is not None
    return [Image.open(io.BytesIO(png)) for png in (picture.png, picture.mask_png)]


@pytest.mark.parametrize("take", PHOTOS.values(), ids=PHOTOS.keys())
def test_a_phones_photo_comes_out_as_srgb_upright_and_cropped_around_the_object(
    service: Service, take: Callable[[], Photo]
) -> None:
    data, upright_mask, colour = take()
    surfaces = [
        through(service, data, encoded(upright_mask))
        for through in (through_the_library, through_the_service)
    ]
    for picture, mask in surfaces:
        assert picture.mode == "RGB" and picture.size == mask.size
        assert max(picture.size) == min(2048, max(upright_mask.size))
        assert "icc_profile" not in picture.info and not picture.getexif()
        crop = crop_around(mask.convert("L"), size=picture.size)
        assert crop[2] == crop[3] < min(picture.size)
        pixels = np.asarray(cut(picture, crop)).astype(int)
        middle = pixels[crop[3] // 2, crop[2] // 2]
        np.testing.assert_allclose(middle, colour, atol=4)  # JPEG and HEIC lose a little
        # The whole object and nothing else of its colour: as much of the crop as of its mask.
        found = (np.abs(pixels - middle).max(axis=2) < 40).mean()
        marked = np.asarray(cut(mask.convert("L"), crop)).mean() / 255
        assert found == pytest.approx(marked, abs=0.02) and marked > 0.2
    (by_library, _), (by_service, _) = surfaces
    np.testing.assert_array_equal(np.asarray(by_library), np.asarray(by_service))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "CMYK", "P", "1", "I;16"])
def test_library_and_service_decode_every_kind_of_pixel_alike(service: Service, mode: str) -> None:
    grey = Image.linear_gradient("L").resize((90, 60))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        image = grey.convert("RGB").convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(grey)
    more = {"icc_profile": grey_inks()} if mode == "CMYK" else {}
    data = encoded(image, "JPEG" if mode == "CMYK" else "PNG", **more)
    [stored] = read_pictures(service, images=[data])
    by_service, by_library = Image.open(io.BytesIO(stored.png)), open_picture(io.BytesIO(data))
    assert by_library.mode == by_service.mode == ("RGBA" if mode in ("RGBA", "LA") else "RGB")
    np.testing.assert_array_equal(np.asarray(by_library), np.asarray(by_service))


@pytest.mark.parametrize("profile", [b"no profile", display_p3()[:300], grey_inks()])
def test_a_profile_that_cannot_be_used_is_ignored_and_the_stored_picture_says_so(
    service: Service, profile: bytes
) -> None:
    picture, _ = drawn((64, 48))
    [stored] = read_pictures(service, images=[encoded(picture, icc_profile=profile)])
    opened = Image.open(io.BytesIO(stored.png))
    opened.load()
    assert decoding.is_profile_ignored(opened) and "icc_profile" not in opened.info
    np.testing.assert_array_equal(np.asarray(opened), np.asarray(picture))


def test_a_heic_where_it_cannot_be_read_is_named_as_such(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _, _ = heic_photo()
    monkeypatch.setattr(decoding, "register_heif", lambda: False)
    with pytest.raises(PictureError, match=r"HEIC.*perfusion\[heic\]"):
        open_picture(io.BytesIO(data))
    monkeypatch.setattr(decoder_process, "_READS_HEIF", False)
    assert "HEIC" in decoder_process._no_picture(data)
    assert "JPEG, PNG or WebP" in decoder_process._no_picture(b"nothing of that kind")
    with pytest.raises(UnsupportedMedia, match="or HEIC"):
        list(read_pictures(service, images=[b"nothing of that kind"]))


def test_a_damaged_heic_is_refused(service: Service) -> None:
    data, _, _ = heic_photo()
    for damaged in (data[: len(data) // 2], data[:40] + bytes(len(data) - 40)):
        with pytest.raises(ServiceError):
            list(read_pictures(service, images=[damaged]))
        with pytest.raises(PictureError):
            open_picture(io.BytesIO(damaged))

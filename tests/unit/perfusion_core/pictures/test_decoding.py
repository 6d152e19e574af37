"""Colours, orientation and size of what a file holds, whatever opened it."""

import io

import numpy as np
import pytest
from PIL import Image

from perfusion_core.pictures import decoding
from tests.unit.perfusion_core.pictures.profiles import (
    display_p3,
    grey_inks,
    linear_grey,
    p3_in_srgb,
)


def plain(mode: str, colour: int | tuple[int, ...], profile: bytes) -> Image.Image:
    picture = Image.new(mode, (8, 6), colour)
    picture.info["icc_profile"] = profile
    return picture


@pytest.mark.parametrize("colour", [(200, 40, 40), (100, 150, 120), (0, 255, 0), (250, 250, 250)])
def test_display_p3_becomes_srgb_as_their_definitions_say(colour: tuple[int, int, int]) -> None:
    converted = decoding.to_srgb(plain("RGB", colour, display_p3()))
    np.testing.assert_allclose(converted.getpixel((3, 3)), p3_in_srgb(colour), atol=1)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        # 0.2140 of the light is level 127.5 of sRGB.
        (plain("L", 55, linear_grey()), (128, 128, 128)),
        # An ink takes a quarter of the lightness: L* = 75 and 50 are levels 185 and 119 of sRGB.
        (plain("CMYK", (255, 0, 0, 0), grey_inks()), (185, 185, 185)),
        (plain("CMYK", (0, 255, 255, 0), grey_inks()), (119, 119, 119)),
    ],
)
def test_greys_and_inks_are_read_by_their_profiles(
    picture: Image.Image, expected: tuple[int, int, int]
) -> None:
    np.testing.assert_allclose(decoding.to_srgb(picture).getpixel((3, 3)), expected, atol=1)


def test_what_is_prepared_twice_is_changed_once() -> None:
    picture = plain("RGBA", (200, 40, 40, 90), display_p3())
    exif = Image.Exif()
    exif[0x0112] = 8
    picture.info["exif"] = exif.tobytes()
    prepared = decoding.prepare(picture)
    assert prepared.size == (6, 8) and prepared.getchannel("A").getextrema() == (90, 90)
    assert decoding.prepare(prepared) is prepared
    untouched = Image.new("RGB", (8, 6))
    assert decoding.prepare(untouched) is untouched


@pytest.mark.parametrize(
    "profile", [b"nothing", display_p3()[:200], grey_inks(), linear_grey(), display_p3()[::-1]]
)
def test_a_profile_of_something_else_changes_no_colour(profile: bytes) -> None:
    picture = plain("RGB", (200, 40, 40), profile)
    converted = decoding.to_srgb(picture)
    assert converted.getpixel((3, 3)) == (200, 40, 40)
    assert decoding.is_profile_ignored(converted) and not decoding.is_profile_ignored(picture)


@pytest.mark.parametrize(("size", "expected"), [((90, 60), (30, 20)), ((301, 2), (30, 1))])
def test_a_large_picture_and_its_mask_are_shrunk_alike(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    picture, mask = Image.new("RGB", size), Image.new("L", size)
    assert decoding.decode(picture, longest_side=30).size == expected
    assert decoding.decode_mask(mask, longest_side=30).size == expected


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_is_never_in_memory_at_its_full_size(progressive: bool) -> None:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((800, 600)).save(file, "JPEG", progressive=progressive)
    opened = Image.open(file)
    assert decoding.decode(opened, longest_side=90).size == (90, 68)
    assert opened.size == (100, 75)  # what was decoded: the smallest eighth that is large enough

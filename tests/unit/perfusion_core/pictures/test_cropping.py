"""A training sees a square around the object: all of it, with a margin, and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from api.demo.subjects import SUBJECTS, Subject, photograph
from perfusion_core.errors import PictureError
from perfusion_core.pictures.cropping import check_crop, crop_around, cut, cut_mask


def mask_of(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", size, 0)
    mask.paste(255, box)
    return mask


@st.composite
def objects(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    width, height = draw(st.integers(8, 200)), draw(st.integers(8, 200))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    right, bottom = draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
    return (width, height), (left, top, right, bottom)


@given(objects())
@settings(max_examples=200, deadline=None)
def test_a_crop_lies_in_its_picture_and_holds_the_whole_object(
    drawn: tuple[tuple[int, int], tuple[int, int, int, int]],
) -> None:
    size, (left, top, right, bottom) = drawn
    crop = crop_around(mask_of(size, (left, top, right, bottom)), size=size)
    x, y, width, height = crop
    check_crop(crop, size=size)
    assert x <= left and y <= top and x + width >= right and y + height >= bottom
    longest, shorter = max(right - left, bottom - top), min(size)
    if longest <= shorter:
        assert width == height  # nothing has to be filled in
        assert longest <= 0.64 * width or width == shorter  # a margin, where there is room
    else:
        assert min(width, height) == shorter


def test_an_object_away_from_the_middle_is_in_the_middle_of_its_crop() -> None:
    mask = mask_of((400, 300), (300, 40, 364, 104))
    assert crop_around(mask, size=(400, 300)) == (282, 22, 100, 100)


def test_a_segmenters_doubt_does_not_widen_the_crop() -> None:
    doubtful = Image.new("L", (400, 300), 40)
    doubtful.paste(200, (300, 40, 364, 104))
    assert crop_around(doubtful, size=(400, 300)) == (282, 22, 100, 100)


@pytest.mark.parametrize("size", [(400, 300), (300, 400), (300, 300)])
def test_without_a_mask_the_crop_is_the_central_square(size: tuple[int, int]) -> None:
    x, y, width, height = crop_around(None, size=size)
    assert (width, height) == (300, 300)
    assert (x, y) == ((size[0] - 300) // 2, (size[1] - 300) // 2)


def test_an_object_longer_than_any_square_is_kept_whole_on_repeated_edges() -> None:
    picture = Image.new("RGB", (60, 200), "green")
    picture.paste("red", (20, 10, 40, 190))
    mask = mask_of((60, 200), (20, 10, 40, 190))
    crop = crop_around(mask, size=picture.size)
    square, square_mask = cut(picture, crop), cut_mask(mask, crop)
    assert square_mask is not None and square.size == square_mask.size == (crop[3], crop[3])
    red = np.asarray(square)[..., 0] > 0
    np.testing.assert_array_equal(red, np.asarray(square_mask) == 255)
    assert red.sum() == 20 * 180
    assert set(np.asarray(square)[~red].reshape(-1, 3)[:, 1]) == {128}  # the edge's green


def test_what_is_filled_in_is_no_object_even_without_a_mask() -> None:
    mask = cut_mask(None, (5, 0, 30, 60))
    assert mask is not None and mask.size == (60, 60)
    assert mask.getbbox() == (15, 0, 45, 60)
    assert cut_mask(None, (5, 0, 30, 30)) is None


@pytest.mark.parametrize("crop", [(-1, 0, 5, 5), (0, 0, 0, 5), (6, 0, 5, 5), (0, 6, 5, 5)])
def test_a_crop_outside_of_its_picture_is_refused_with_both_sizes(
    crop: tuple[int, int, int, int],
) -> None:
    with pytest.raises(PictureError, match=r"does not lie inside its picture of 10 x 10 pixels"):
        check_crop(crop, size=(10, 10))


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_the_demos_pictures_are_not_cropped(subject: Subject) -> None:
    for photo in photograph(subject):
        size = photo.picture.size
        assert crop_around(photo.mask, size=size) == (0, 0, *size)
        assert cut(photo.picture, (0, 0, *size)) is photo.picture

"""A crop means the same part of a picture before and after the picture is shrunk."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from service.pictures import crops
from tests.unit.service.staging import uploaded

_WIDTH, _HEIGHT = 48, 40
_SCALES = st.floats(1, 20)


@st.composite
def stored_crops(draw: st.DrawFn) -> tuple[int, int, int, int]:
    x, y = draw(st.integers(0, _WIDTH - 1)), draw(st.integers(0, _HEIGHT - 1))
    width, height = draw(st.integers(1, _WIDTH - x)), draw(st.integers(1, _HEIGHT - y))
    return x, y, width, height


@given(stored_crops(), _SCALES, _SCALES)
def test_a_crop_of_an_inspection_comes_back_as_the_same_crop(
    crop: tuple[int, int, int, int], across: float, down: float
) -> None:
    size = (round(_WIDTH * across), round(_HEIGHT * down))
    of_upload = crops.to_uploaded(crop, stored_size=(_WIDTH, _HEIGHT), uploaded_size=size)
    picture = replace(uploaded()[0], width=_WIDTH, height=_HEIGHT, uploaded_size=size)
    assert crops.to_stored(of_upload, picture, least_side=1, pointer="/crops/0") == crop


def test_a_crop_is_scaled_with_its_picture() -> None:
    picture = replace(uploaded()[0], width=2048, height=1536, uploaded_size=(8064, 6048))
    crop = crops.to_stored((4032, 3024, 4032, 3024), picture, least_side=32, pointer="/crops/0")
    assert crop == (1024, 768, 1024, 768)

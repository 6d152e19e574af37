"""The window of a masked edit: where it lies, what it shows, and that it comes back in place."""

from itertools import product
from random import Random

import numpy as np
import pytest
from PIL import Image

from perfusion_core.editing.masks import mask_of_boxes
from perfusion_core.editing.window import window_around

SIDE = 64


def test_the_window_is_a_square_inside_the_picture_around_mask_and_margin() -> None:
    window = window_around(mask_of_boxes((4000, 3000), [(1900, 500, 200, 100)]), margin=32, side=64)
    left, top, right, bottom = window.visible
    assert right - left == bottom - top
    assert (left + right) // 2 == 2000 and abs((top + bottom) // 2 - 550) <= 1
    assert left <= 1900 - 32 and right >= 2100 + 32
    assert window.inner == (0, 0, 64, 64)


def test_the_margin_is_at_least_an_eighth_of_the_window() -> None:
    window = window_around(mask_of_boxes((4000, 3000), [(900, 900, 1200, 600)]), margin=0, side=64)
    assert window.visible[0] == 900 - 200 and window.visible[2] == 2100 + 200


def test_around_a_subject_the_margin_may_be_a_sixteenth() -> None:
    mask = mask_of_boxes((4000, 3000), [(900, 900, 1200, 600)])
    window = window_around(mask, margin=0, side=64, keeps_background=True)
    assert window.visible == (814, 514, 2186, 1886)


def test_at_the_edge_the_window_moves_into_the_picture() -> None:
    window = window_around(mask_of_boxes((400, 300), [(0, 280, 20, 20)]), margin=10, side=64)
    assert window.visible == (0, 270, 30, 300)
    tall = window_around(mask_of_boxes((400, 300), [(380, 90, 20, 120)]), margin=10, side=64)
    assert tall.visible == (240, 70, 400, 230)


def test_where_the_picture_ends_its_mirror_image_goes_on() -> None:
    ramp = np.zeros((10, 200, 3), np.uint8)
    ramp[:5] = 255
    picture = Image.fromarray(ramp)
    window = window_around(mask_of_boxes(picture.size, [(0, 0, 200, 10)]), margin=0, side=200)
    assert window.visible == (0, 0, 200, 10) and window.inner == (0, 95, 200, 105)
    square = np.asarray(window.cut(picture))
    assert square.shape == (200, 200, 3)
    assert (square[95:100] == 255).all() and (square[100:105] == 0).all()
    assert (square[90:95] == 255).all() and (square[85:90] == 0).all()  # mirrored, twice
    mask = np.asarray(window.cut_mask(Image.new("L", picture.size, 255)))
    assert mask[95:105].all() and not mask[:95].any() and not mask[105:].any()


def test_what_is_cut_out_comes_back_in_its_place() -> None:
    """A smooth picture survives the way through the window at every place and size."""
    chance = Random(1)
    for width, height in product((40, 150, 333), (30, 200, 401)):
        x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
        smooth = np.stack([x, y, (x + y) / 2], axis=-1).astype(np.uint8)
        picture = Image.fromarray(smooth)
        box_width, box_height = chance.randint(4, width), chance.randint(4, height)
        left, top = chance.randint(0, width - box_width), chance.randint(0, height - box_height)
        mask = mask_of_boxes(picture.size, [(left, top, box_width, box_height)])
        window = window_around(mask, margin=chance.randint(0, 40), side=SIDE)
        box = (left, top, left + box_width, top + box_height)
        back = np.asarray(window.back(window.cut(picture), box), np.int16)
        assert back.shape == (box_height, box_width, 3)
        # One pixel of the square is worth this many grey levels.
        step = 255 * (window.visible[2] - window.visible[0]) / width / SIDE
        step = max(step, 255 * (window.visible[3] - window.visible[1]) / height / SIDE)
        apart = np.abs(back - smooth[box[1] : box[3], box[0] : box[2]].astype(np.int16))
        assert apart.mean() <= 1 + step / 4, (width, height, box)


@pytest.mark.parametrize("size", [(8000, 8000), (20000, 30)])
def test_a_huge_picture_is_scaled_in_one_small_step(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, "teal")
    window = window_around(Image.new("L", size, 255), margin=32, side=SIDE)
    square = window.cut(picture)
    assert square.size == (SIDE, SIDE)
    assert square.getextrema() == tuple((grey, grey) for grey in (0, 128, 128))

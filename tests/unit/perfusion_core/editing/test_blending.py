"""Blending: outside the mask nothing changes, and the feather lies inside it."""

from random import Random

import numpy as np
import pytest
from PIL import Image, ImageDraw

from perfusion_core.editing.blending import Blend, feathered
from perfusion_core.editing.masks import mask_of_boxes
from perfusion_core.editing.window import window_around


def noise(size: tuple[int, int], seed: int = 0) -> Image.Image:
    shape = (size[1], size[0], 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


def scribble(size: tuple[int, int], seed: int) -> Image.Image:
    """A mask with thin lines, a disc, grey, and single black pixels."""
    chance = Random(seed)
    mask = Image.new("L", size, 0)
    pen = ImageDraw.Draw(mask)
    for _ in range(4):
        line = [(chance.randint(0, size[0]), chance.randint(0, size[1])) for _ in range(3)]
        pen.line(line, fill=chance.choice((127, 128, 255)), width=chance.randint(1, 30))
    if seed % 2:
        pen.ellipse((20, 10, 210, 160), fill=255)
    for _ in range(50):
        mask.putpixel((chance.randrange(size[0]), chance.randrange(size[1])), 127)
    return mask


@pytest.mark.parametrize("feather", [0, 1, 8, 40, 512])
@pytest.mark.parametrize("seed", range(4))
def test_not_one_pixel_changes_outside_any_mask(feather: int, seed: int) -> None:
    picture, mask = noise((230, 170)), scribble((230, 170), seed)
    window = window_around(mask, margin=5, side=64)
    blend = Blend(picture, mask, window=window, feather=feather)
    after = np.asarray(blend.paste(noise((64, 64), seed=1)))
    black = np.asarray(mask) < 128
    assert (after[black] == np.asarray(picture)[black]).all()
    assert (after[~black] != np.asarray(picture)[~black]).any(axis=-1).mean() > 0.5


def test_the_feather_rises_inside_the_white_and_not_at_the_edge_of_the_picture() -> None:
    mask = mask_of_boxes((100, 60), [(0, 10, 60, 40)])
    row = np.asarray(feathered(mask, (0, 10, 60, 50), feather=8))[20]
    assert (row[:52] == 255).all()  # from the picture's own edge on
    assert (np.diff(row[51:].astype(int)) <= 0).all() and 0 < row[-1] < 64
    hard = np.asarray(feathered(mask, (0, 10, 60, 50), feather=0))
    assert (hard == 255).all()


def test_a_thin_mask_gets_a_narrower_feather() -> None:
    mask = mask_of_boxes((100, 60), [(10, 20, 80, 6)])
    opacity = np.asarray(feathered(mask, (10, 20, 90, 26), feather=64))
    assert (opacity == 255).mean() >= 0.5

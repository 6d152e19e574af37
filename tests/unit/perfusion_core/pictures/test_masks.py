"""Where masks come from, and what becomes of them."""

from typing import cast

import pytest
from PIL import Image

from perfusion_core.errors import PictureError
from perfusion_core.pictures.masks import Segmenter, choose_masks, to_soft_mask, weakest
from tests.unit.perfusion_core.training.conftest import picture


def test_masks_come_from_uploads_first_then_alpha_then_nowhere() -> None:
    plain = picture()
    clear = picture().convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize((64, 64)))
    opaque = picture().convert("RGBA")
    white = Image.new("L", (64, 64), 255)

    def source(pictures: list[Image.Image], masks: list[Image.Image | None] | None = None) -> str:
        chosen = choose_masks(pictures, uploaded=masks, segmenter=None, superclass="teddy")
        return weakest(chosen[1])

    assert source([plain]) == "uniform"
    assert source([clear]) == "alpha"
    assert source([opaque]) == "uniform"  # an alpha channel that says nothing
    assert source([clear], [white]) == "upload"
    assert source([clear, plain]) == "uniform"  # the weakest is named
    with pytest.raises(PictureError, match="picture 1 is all black"):
        source([plain], [Image.new("L", (64, 64), 0)])


def test_a_mask_of_another_size_than_its_picture_is_refused_with_both_sizes() -> None:
    mask = Image.new("L", (64, 32), 255)
    with pytest.raises(PictureError, match="picture 2 has 64 x 32 pixels and the picture 64 x 64"):
        choose_masks(
            [picture(), picture()], uploaded=[None, mask], segmenter=None, superclass="teddy"
        )


def test_a_segmenter_that_finds_nothing_leaves_the_mask_uniform() -> None:
    def found(most: int, box: tuple[int, int, int, int]) -> tuple[bool, str]:
        mask = Image.new("L", (128, 64), 2)
        mask.paste(most, box)

        def segmenter(picture: Image.Image, superclass: str) -> Image.Image:
            return mask

        masks, [source] = choose_masks(
            [picture().resize((128, 64))],
            uploaded=None,
            segmenter=cast(Segmenter, segmenter),
            superclass="teddy",
        )
        return masks == [mask], source

    assert found(200, (50, 20, 70, 40)) == (True, "segmenter")
    assert found(20, (50, 20, 70, 40)) == (False, "uniform")  # doubt
    assert found(200, (0, 20, 20, 40)) == (True, "segmenter")  # the crop goes where it is


def test_a_soft_mask_is_scaled_to_a_maximum_of_one_per_image() -> None:
    faint = Image.new("L", (64, 64), 0)
    faint.paste(51, (16, 16, 48, 48))
    M = to_soft_mask(faint, side=64, latent_side=16)
    assert M.shape == (1, 16, 16) and float(M.max()) == 1.0 and float(M.min()) == 0.0

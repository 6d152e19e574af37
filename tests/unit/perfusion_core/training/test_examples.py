"""What a training sees of pictures as Pillow opens them."""

import io

import numpy as np
import pytest
from PIL import Image

from perfusion_core.base_model import BaseModel
from perfusion_core.config import TrainConfig
from perfusion_core.errors import PictureError
from perfusion_core.training.trainer import Training, train
from tests.unit.perfusion_core.pictures.profiles import display_p3, p3_in_srgb
from tests.unit.perfusion_core.training.conftest import SHORT, begin

TURNED = 6


def a_thing_on_a_lawn() -> tuple[Image.Image, Image.Image]:
    """Return an upright picture of 300 x 400 pixels with a red thing at the right, and its mask."""
    picture, mask = Image.new("RGB", (300, 400), (60, 120, 60)), Image.new("L", (300, 400), 0)
    for image, colour in ((picture, (200, 40, 40)), (mask, 255)):
        image.paste(colour, (200, 120, 264, 184))  # type: ignore[arg-type]
    return picture, mask


def as_a_phone_saves_it(picture: Image.Image) -> Image.Image:
    """Return the picture lying, in Display P3, as Pillow opens it and not yet decoded."""
    exif = Image.Exif()
    exif[0x0112] = TURNED
    file = io.BytesIO()
    lying = picture.transpose(Image.Transpose.ROTATE_90)
    lying.save(file, "PNG", exif=exif, icc_profile=display_p3())
    return Image.open(file)


def begin_with(base: BaseModel, picture: Image.Image, mask: Image.Image) -> Training:
    return train(base, [picture], name="x", superclass="teddy", config=SHORT, masks=[mask])


def test_pictures_that_pillow_opened_are_seen_upright_in_srgb_and_cropped(base: BaseModel) -> None:
    picture, mask = a_thing_on_a_lawn()
    training = begin_with(base, as_a_phone_saves_it(picture), mask)
    [square] = training.examples.squares
    assert square.size == (100, 100)  # the thing fills 64 % of it
    pixels = np.asarray(square)
    for at, colour in (((50, 50), (200, 40, 40)), ((5, 5), (60, 120, 60))):
        np.testing.assert_allclose(pixels[at], p3_in_srgb(colour), atol=1)
    assert (pixels[..., 0] > 150).sum() == 64 * 64  # the whole thing
    # A mask that lies as the picture does is turned with it.
    lying = as_a_phone_saves_it(mask.convert("RGB"))
    again = begin_with(base, as_a_phone_saves_it(picture), lying)
    np.testing.assert_array_equal(np.asarray(again.examples.squares[0]), pixels)


def test_a_given_crop_replaces_the_crop_around_the_mask(base: BaseModel) -> None:
    picture, mask = a_thing_on_a_lawn()
    config = TrainConfig(max_train_steps=1, train_batch_size=1)
    crops = [(10, 20, 60, 60), None]
    training = train(
        base, [picture, picture], name="x", superclass="teddy", config=config,
        masks=[None, mask], crops=crops,
    )  # fmt: skip
    given, chosen = training.examples.squares
    assert given.tobytes() == picture.crop((10, 20, 70, 80)).tobytes()
    assert chosen.size == (100, 100)
    with pytest.raises(PictureError, match="does not lie inside its picture of 64 x 64"):
        begin(base, crops=[(60, 0, 5, 5)])


def test_another_crop_is_another_training(base: BaseModel) -> None:
    crops = (None, [(0, 0, 64, 64)], [(0, 0, 60, 60)])
    digests = {begin(base, crops=given).examples.digest for given in crops}
    assert len(digests) == 3

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.paper.outside import features, outside_similarity


def _drawn(shape: str, colour: str, side: int = 128) -> Image.Image:
    image = Image.new("RGB", (side, side), "white")
    box = (side // 5, side // 5, 4 * side // 5, 4 * side // 5)
    getattr(ImageDraw.Draw(image), shape)(box, fill=colour, outline="black", width=3)
    return image


@pytest.fixture(scope="module")
def disc() -> Image.Image:
    return _drawn("ellipse", "orange")


def test_an_image_is_as_near_as_can_be_to_itself(disc: Image.Image) -> None:
    assert outside_similarity([disc], [disc]) == pytest.approx(1.0, abs=1e-5)


def test_an_image_is_nearer_to_its_blurred_copy_than_to_another(disc: Image.Image) -> None:
    blurred = disc.filter(ImageFilter.GaussianBlur(1))
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    assert outside_similarity([disc], [blurred]) > outside_similarity(
        [disc], [Image.fromarray(noise)]
    )


def test_similarity_is_the_mean_over_all_pairs(disc: Image.Image) -> None:
    square = _drawn("rectangle", "blue")
    single = [outside_similarity([image], [disc]) for image in (disc, square)]
    assert outside_similarity([disc, square], [disc]) == pytest.approx(np.mean(single), abs=1e-5)


def test_images_of_any_size_have_features_of_one_length(disc: Image.Image) -> None:
    seen = features([disc, _drawn("ellipse", "orange", 64)])
    assert seen.shape == (2, 704)
    assert torch.allclose(seen.norm(dim=1), torch.ones(2), atol=1e-5)

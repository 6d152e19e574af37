"""Masks of boxes and of what a segmenter finds, and what an edit refuses."""

import numpy as np
import pytest
from PIL import Image

from perfusion_core.config import EditConfig
from perfusion_core.editing.edit import Edit
from perfusion_core.editing.masks import mask_of_boxes, mask_of_subject
from perfusion_core.errors import EditError

PICTURE = Image.new("RGB", (40, 30), "teal")


def test_the_mask_of_boxes_is_their_union_to_the_pixel() -> None:
    mask = np.asarray(mask_of_boxes((40, 30), [(0, 0, 5, 6), (3, 4, 37, 26)]))
    expected = np.zeros((30, 40), np.uint8)
    expected[0:6, 0:5] = expected[4:30, 3:40] = 255
    assert (mask == expected).all()


@pytest.mark.parametrize(
    ("boxes", "said"),
    [
        ([], "no box"),
        ([(0, 0, 0, 5)], "0,0,0,5 is empty"),
        ([(1, 1, 5, 5), (-1, 0, 5, 5)], "-1,0,5,5 is not inside"),
        ([(36, 0, 5, 5)], "40 x 30 pixels"),
        ([(0, 26, 5, 5)], "40 x 30 pixels"),
        ([(0, 26, 5)], "four numbers"),
    ],
)
def test_a_box_that_is_empty_or_not_inside_is_refused(
    boxes: list[tuple[int, ...]], said: str
) -> None:
    with pytest.raises(EditError, match=said):
        mask_of_boxes((40, 30), boxes)


def test_the_mask_of_a_subject_holds_all_of_it_and_little_else() -> None:
    def find(picture: Image.Image, subject: str) -> Image.Image:
        assert subject == "cup"
        soft = np.full(picture.size[::-1], 10, np.uint8)
        soft[300:500, 200:400] = 90  # below white, as a segmenter often is
        return Image.fromarray(soft)

    mask = np.asarray(mask_of_subject(Image.new("RGB", (800, 600)), "cup", find))
    assert mask.min() == 0 and mask.max() == 255 and set(np.unique(mask)) == {0, 255}
    assert mask[300:500, 200:400].all()
    assert not mask[:260].any() and not mask[:, :160].any() and not mask[:, 440:].any()


def test_a_subject_that_is_not_found_is_refused() -> None:
    with pytest.raises(EditError, match="No cup was found"):
        mask_of_subject(PICTURE, "cup", lambda picture, _: Image.new("L", picture.size, 20))


@pytest.mark.parametrize(
    ("picture", "mask", "said"),
    [
        (PICTURE, Image.new("L", (30, 40), 255), "30 x 40 pixels and the picture 40 x 30"),
        (PICTURE, Image.new("L", (40, 30), 127), "empty"),
        (PICTURE, Image.new("RGB", (40, 30), "white"), "grey"),
        (PICTURE.convert("RGBA"), None, "RGB"),
    ],
)
def test_a_picture_or_mask_that_cannot_be_used_is_refused(
    picture: Image.Image, mask: Image.Image | None, said: str
) -> None:
    with pytest.raises(EditError, match=said):
        Edit(picture=picture, mask=mask)


def test_an_edit_changes_all_inside_a_mask_and_most_without_one() -> None:
    mask = Image.new("L", PICTURE.size, 128)
    assert Edit(picture=PICTURE, mask=mask).denoising_strength == 1
    assert Edit(picture=PICTURE).denoising_strength == 0.7
    given = EditConfig(denoising_strength=0.3)
    assert Edit(picture=PICTURE, mask=mask, config=given).denoising_strength == 0.3

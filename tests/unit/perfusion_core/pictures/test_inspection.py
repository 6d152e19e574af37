"""What may go wrong with pictures is named before a training, and nothing else is."""

import io
from collections.abc import Callable

import pytest
from PIL import Image, ImageEnhance, ImageFilter

from api.demo.subjects import SUBJECTS, Photo, Subject, photograph
from perfusion_core.pictures.inspection import InspectedPicture, inspect_pictures

REX, _ = SUBJECTS
PHOTOS = photograph(REX)


def inspected(photos: list[Photo], resolution: int | None = 64) -> list[InspectedPicture]:
    return inspect_pictures(
        [photo.picture for photo in photos],
        masks=[photo.mask for photo in photos],
        superclass=None,
        segmenter=None,
        resolution=resolution,
    )


def codes(picture: InspectedPicture) -> list[str]:
    return [finding.code for finding in picture.findings]


def saved_again(picture: Image.Image) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=40)
    return Image.open(file)


def cut_by_5_percent(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    edge = width // 20
    return picture.crop((edge, edge, width - edge, height - edge))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "saved again": saved_again,
    "half as large": lambda picture: picture.resize((128, 128), Image.Resampling.LANCZOS),
    "cut by 5 %": cut_by_5_percent,
    "darker": lambda picture: ImageEnhance.Brightness(picture).enhance(0.7),
}


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_nothing_is_wrong_with_the_demos_pictures(subject: Subject) -> None:
    for picture in inspected(photograph(subject)):
        assert picture.findings == ()
        assert picture.crop == (0, 0, 256, 256)
        assert picture.mask_source == "upload" and picture.mask is not None


def test_two_duplicates_and_a_blurred_picture_of_five_are_named() -> None:
    photos = [
        PHOTOS[0],
        PHOTOS[1],
        Photo(PHOTOS[2].picture.filter(ImageFilter.GaussianBlur(3)), PHOTOS[2].mask),
        Photo(saved_again(PHOTOS[0].picture), PHOTOS[0].mask),
        Photo(saved_again(PHOTOS[1].picture.resize((200, 200))), PHOTOS[1].mask.resize((200, 200))),
    ]
    pictures = inspected(photos)
    assert [codes(picture) for picture in pictures] == [
        [], [], ["blurred"], ["near-duplicate"], ["near-duplicate"],
    ]  # fmt: skip
    assert "picture 1" in pictures[3].findings[0].detail
    assert "picture 2" in pictures[4].findings[0].detail
    for picture in pictures:
        for finding in picture.findings:
            assert finding.remedy.endswith(".") and finding.detail.endswith(".")


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
def test_a_copy_of_a_picture_is_named_whatever_was_done_to_it(
    copied: Callable[[Image.Image], Image.Image],
) -> None:
    pictures = [photo.picture for photo in PHOTOS]
    found = inspect_pictures(
        [*pictures, copied(pictures[3])], masks=None, superclass=None, segmenter=None
    )
    assert ["near-duplicate" in codes(picture) for picture in found] == [False] * 5 + [True]


@pytest.mark.parametrize(
    ("code", "picture"),
    [
        ("dark", ImageEnhance.Brightness(PHOTOS[0].picture).enhance(0.25)),
        ("overexposed", Image.eval(PHOTOS[0].picture, lambda level: min(255, level + 160))),
        ("small-picture", PHOTOS[0].picture.resize((48, 48))),
    ],
)
def test_a_picture_that_lost_its_detail_is_named(code: str, picture: Image.Image) -> None:
    [found] = inspected([Photo(picture, PHOTOS[0].mask.resize(picture.size))])
    assert code in codes(found)


def test_a_tiny_object_and_one_that_is_cut_off_are_named() -> None:
    far = Image.new("RGB", (1000, 1000), "skyblue")
    far_mask = Image.new("L", far.size, 0)
    for target, source in ((far, PHOTOS[0].picture), (far_mask, PHOTOS[0].mask)):
        target.paste(source.resize((120, 120)), (600, 300))
    near = PHOTOS[0].picture.crop((0, 0, 256, 140)), PHOTOS[0].mask.crop((0, 0, 256, 140))
    tiny, cut_off = inspected([Photo(far, far_mask), Photo(*near)])
    assert codes(tiny) == ["tiny-subject"]
    x, y, side, _ = tiny.crop
    assert x <= 617 and y <= 318 and side < 200  # the crop went there all the same
    assert codes(cut_off) == ["cut-off-object"]


def test_a_picture_without_a_mask_is_named_and_so_is_what_was_not_found() -> None:
    picture = PHOTOS[0].picture

    def finds_nothing(picture: Image.Image, superclass: str) -> Image.Image:
        return Image.new("L", picture.size, 3)

    [plain] = inspect_pictures([picture], masks=None, superclass="robot", segmenter=None)
    [nothing] = inspect_pictures([picture], masks=None, superclass="robot", segmenter=finds_nothing)
    assert codes(plain) == ["no-mask"] and plain.mask_source == "uniform" and plain.mask is None
    assert codes(nothing) == ["no-object-found"] and "No robot" in nothing.findings[0].detail

"""`perfusion check` names what may be wrong with pictures, and shows what a training would see."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from api.demo.subjects import SUBJECTS, photograph
from tests.unit.api.cli.test_commands import Run, refused, run
from tests.unit.service import staging

__all__ = ["run"]  # the fixture


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    """Return five photos of a toy, as files: the third is blurred, the last repeats the second."""
    pictures = [photo.picture for photo in photograph(SUBJECTS[0])]
    pictures[2] = pictures[2].filter(ImageFilter.GaussianBlur(3))
    pictures[4] = pictures[1].resize((200, 200))
    files = [f"{number}.jpg" for number in range(1, 6)]
    for file, picture in zip(files, pictures, strict=True):
        (tmp_path / file).write_bytes(staging.encoded(picture, "JPEG", quality=90))
    return files


def test_each_picture_has_a_line_and_each_problem_a_remedy(run: Run, photos: list[str]) -> None:
    code, out, err = run("check", *photos)
    assert (code, err) == (0, "")
    lines = [line for line in out.splitlines() if "no-mask" not in line]
    assert [line.split(":")[0] for line in lines] == [
        "1.jpg (picture 1)", "2.jpg (picture 2)",
        "3.jpg (picture 3)", "  blurred",
        "4.jpg (picture 4)",
        "5.jpg (picture 5)", "  near-duplicate",
    ]  # fmt: skip
    assert lines[3].endswith("Use a sharp picture, or leave this one out.")
    assert "nearly the same as picture 2" in lines[6]
    assert lines[0].endswith("mask: none; crop: 256 x 256 at (0, 0) of 256 x 256 pixels")


def test_a_superclass_that_the_base_model_does_not_list_is_said_once(
    run: Run, photos: list[str]
) -> None:
    code, out, err = run("check", *photos, "--superclass", "badger")
    assert (code, err) == (0, "")
    assert out.startswith("This base model was not trained to draw 'badger'. ")
    assert out.count("badger") == 1
    assert "badger" not in run("check", *photos, "--superclass", "toy robot")[1]


def test_what_all_pictures_have_is_said_once(run: Run, photos: list[str]) -> None:
    lines = run("check", *photos)[1].splitlines()
    assert [line for line in lines if "no-mask" in line] == [lines[0]]
    assert lines[0].startswith("All pictures: ")
    assert "nothing else is wrong" in lines[1]
    (alone,) = [line for line in run("check", photos[0])[1].splitlines() if "no-mask" in line]
    assert alone.startswith("  no-mask")


def test_a_file_that_cannot_be_read_does_not_hide_what_is_wrong_with_the_others(
    run: Run, photos: list[str], tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_bytes(b"text")
    code, out, err = run("check", "text.png", photos[2], "missing.png")
    assert code == 1
    assert "3.jpg (picture 2)" in out and "blurred" in out
    first, second, last = err.splitlines()
    assert first.startswith("text.png: ") and "missing.png" in second
    assert last == "perfusion: 2 of 3 pictures cannot be read: see the lines above."


def test_previews_show_the_crop_beside_the_mask(run: Run, tmp_path: Path) -> None:
    picture, mask = Image.new("RGB", (400, 300), "green"), Image.new("L", (400, 300), 0)
    for image, colour in ((picture, "navy"), (mask, "white")):
        image.paste(colour, (280, 100, 344, 164))
    (tmp_path / "a.png").write_bytes(staging.encoded(picture))
    (tmp_path / "mask.png").write_bytes(staging.encoded(mask))
    code, out, _ = run("check", "a.png", "--mask", "mask.png", "--out", "previews")
    assert code == 0 and "nothing is wrong; mask: given; crop: 100 x 100" in out
    preview = Image.open(tmp_path / "previews" / "1-a.png").convert("RGB")
    assert preview.size == (800, 300)
    pixels = np.asarray(preview)
    framed = (pixels == (255, 64, 64)).all(axis=2)
    columns = np.flatnonzero(framed.any(axis=0))
    assert (columns.min(), columns.max()) == (262, 400 + 361)
    assert (pixels[130, 400 + 300] == 255).all() and (pixels[20, 400 + 20] == 0).all()


def test_a_file_that_is_no_picture_is_refused_by_its_name(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a picture")
    assert "notes.txt" in refused(run("check", "notes.txt"))
    assert "There is no file" in refused(run("check", "nowhere.png"))
    (tmp_path / "photos").mkdir()
    assert "photos is a folder: name its pictures" in refused(run("check", "photos"))
    assert "--out names a folder" in refused(run("check", "a.png", "--out", "notes.txt"))

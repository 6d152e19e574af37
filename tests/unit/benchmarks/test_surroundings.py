"""What trainings do to surroundings, by command: its measure, its rows, and that it goes on."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from benchmarks import sampling, surroundings
from benchmarks.surroundings import subjects_of
from benchmarks.taught import WITH_ARTICLES, Row, roughness
from perfusion_core import BaseModel, Concept
from perfusion_core.text.templates import TEMPLATES


def _speckled(box: tuple[int, int, int, int]) -> Image.Image:
    """A grey image with a chessboard of pixels in `box`."""
    image = Image.new("L", (128, 128), 128)
    pixels = np.indices((box[3] - box[1], box[2] - box[0])).sum(0) % 2 * 100
    image.paste(Image.fromarray(pixels.astype(np.uint8)), box[:2])
    return image.convert("RGB")


def test_speckles_make_the_background_rough_wherever_the_edges_are() -> None:
    even = Image.new("RGB", (128, 128), "pink")
    assert roughness([even]) == 0
    assert roughness([_speckled((10, 6, 50, 20))]) > 10  # the top
    assert roughness([_speckled((80, 117, 120, 123))]) > 5  # the bottom
    assert roughness([even, _speckled((10, 6, 50, 20))]) > 5


def test_what_two_objects_show_is_no_roughness() -> None:
    assert roughness([_speckled((8, 30, 120, 110))]) == 0


def test_roughness_looks_at_the_same_parts_of_an_image_of_any_size() -> None:
    image = Image.new("RGB", (256, 256), "white")
    ImageDraw.Draw(image).ellipse((60, 60, 190, 210), fill="black")
    assert roughness([image]) == 0
    ImageDraw.Draw(image).ellipse((20, 10, 30, 20), fill="black")
    assert roughness([image]) > 0


@pytest.mark.parametrize("text", ["1:0.1", "1:0.1:80:without", "weight:0.1:80"])
def test_a_row_that_says_something_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Row.read(text)


def test_with_articles_no_training_prompt_is_without() -> None:
    usual, kept = set(TEMPLATES), set(WITH_ARTICLES)
    assert len(kept) == 12
    assert usual - kept == {"{}", "photo of {}", "picture of {}"}
    articles = {"a", "the", "one", "my"}
    assert all(articles & set(template[: template.index("{")].split()) for template in kept)


def _asked(folder: Path, results: Path) -> list[str]:
    return ["--base-model", str(folder), "--results", str(results)]


@pytest.mark.long
def test_rows_are_taught_measured_and_shown_and_never_twice(
    odd: BaseModel, odd_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [*_asked(odd_folder, tmp_path), "--pairs", "robot+penguin", "--beta", "0.4"]
    asked += ["--rows", "2:0.3:2"]
    surroundings.main(asked)
    told = capsys.readouterr().out
    rows, pairs, sheet = told.split("\n\n")
    made = [line.split(" | ")[0] for line in rows.splitlines()[2:]]
    assert made == ["| plain superclass", "| 2, 0.3, 2"]
    assert rows.splitlines()[2].split(" | ")[3] == "1.000, 1.000"  # its own scene
    assert rows.splitlines()[0].startswith("| weight, rate, steps | image: penguin, robot |")
    assert len(pairs.splitlines()) == 2 + 2 * 2  # two forms of the prompt
    with Image.open(sheet.strip().removeprefix("Pairs, plain first: ")) as picture:
        assert picture.format == "WEBP"
    (taught,) = tmp_path.glob("*/surroundings/2, 0.3, 2/robot.safetensors")
    training = Concept.load(taught).training
    assert (training["background_weight"], training["learning_rate"], training["steps"]) == (
        2.0, 0.3, 2,
    )  # fmt: skip
    kept = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if _is_kept(file)}
    assert len(kept) == 2 + 2 + (2 + 2 + 2)  # plain: alone, pairs; taught: concepts, alone, pairs
    surroundings.main(asked)
    assert capsys.readouterr().out == told
    assert kept == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if _is_kept(file)}


def _is_kept(file: Path) -> bool:
    return file.suffix in (".safetensors", ".png", ".part")


def test_settings_of_sampling_draw_with_the_rows_own_concept(
    odd_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sampling.main(
        [
            *_asked(odd_folder, tmp_path),
            "--row",
            "0:0.1:1:articles",
            "--settings",
            "ddim:1:2",
            "euler:2:1",
        ]
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| ddim, 1, 2", "| euler, 2, 1"]
    assert lines[2].split(" | ")[1:] != lines[3].split(" | ")[1:]
    assert list(tmp_path.glob("*/surroundings/0, 0.1, 1, articles/billed-cap.safetensors"))


def test_subjects_of_pairs_are_told_once() -> None:
    pairs = [surroundings._pair(names) for names in surroundings._PAIRS]
    names = [subject.name for subject in subjects_of(pairs)]
    assert names == ["billed-cap", "cat-face", "sport-utility-vehicle"]

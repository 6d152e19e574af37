"""`perfusion edit` with the shipped base model."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from tests.unit.api.cli.test_commands import Run, refused
from tests.unit.service import staging


@pytest.fixture
def photo(tmp_path: Path) -> Image.Image:
    """Write a photo that lies on its side, `photo.jpg`; return it upright."""
    x, y = np.meshgrid(np.linspace(0, 255, 240), np.linspace(255, 0, 180))
    sideways = Image.fromarray(np.stack([x, y, (x + y) / 2], axis=-1).astype(np.uint8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    sideways.save(tmp_path / "photo.jpg", exif=exif, quality=95)
    return Image.open(tmp_path / "photo.jpg").transpose(Image.Transpose.ROTATE_270)


def test_a_photo_is_edited_in_boxes_and_keeps_every_other_pixel(
    run: Run, photo: Image.Image, tmp_path: Path
) -> None:
    code, out, err = run(
        "edit", "photo.jpg", "a photo of a cat", "--box", "40,50,60,70", "--box", "0,0,9,9",
        "--steps", "2", "--seed", "5", "--attention-maps", "--mask-feather", "2",
    )  # fmt: skip
    assert code == 0, err
    assert out.splitlines()[0] == "5.png"
    image = Image.open(tmp_path / "5.png")
    after, before = np.asarray(image), np.asarray(photo)
    inside = np.zeros(before.shape[:2], bool)
    inside[50:120, 40:100] = inside[0:9, 0:9] = True
    assert (after[~inside] == before[~inside]).all()
    assert (after[inside] != before[inside]).any()
    request = json.loads(image.info["perfusion"])["request"]
    assert request["denoising_strength"] == 1
    assert (request["mask_feather"], request["mask_margin"]) == (2, 32)
    assert "Denoising strength: 1" in image.info["parameters"]
    # The map of "cat" lies over the photo, dark where the base model did not look.
    drawn = Image.open(next(tmp_path.glob("5.attention-*-cat.png"))).convert("L")
    assert drawn.size == photo.size
    assert np.asarray(drawn)[200:].mean() < np.asarray(drawn)[40:130, 30:110].mean()


def test_a_whole_photo_is_drawn_anew_at_the_size_that_is_asked_for(
    run: Run, photo: Image.Image, tmp_path: Path
) -> None:
    code, _, err = run(
        "edit", "photo.jpg", "a painting", "--steps", "4", "--denoising-strength", "0.5",
        "--width", "128", "--height", "64", "--seed", "5",
    )  # fmt: skip
    assert code == 0, err
    image = Image.open(tmp_path / "5.png")
    assert image.size == (128, 64)
    request = json.loads(image.info["perfusion"])["request"]
    assert request["denoising_strength"] == 0.5 and "mask_margin" not in request


WRONG = [
    (["none.jpg", "a cat"], "no file none.jpg"),
    (["mask.png", "a cat", "--mask", "photo.jpg"], "180 x 240 pixels and the picture 60 x 40"),
    (["photo.jpg", "a cat", "--mask", "black.png"], "empty"),
    (["text.jpg", "a cat"], "not a JPEG"),
    (["photo.jpg", "a cat", "--box", "1,2,3"], "X,Y,WIDTH,HEIGHT"),
    (["photo.jpg", "a cat", "--box", "170,0,20,20"], "180 x 240 pixels"),
    (["photo.jpg", "a cat", "--box", "0,0,9,9", "--replace", "cup"], "--box and --replace"),
    (["photo.jpg", "a cat", "--box", "0,0,9,9", "--width", "64"], "leave --width out"),
    (["photo.jpg", "a cat", "--mask-margin", "9"], "needs a mask"),
    (["photo.jpg", "a cat", "--keep-background"], "needs a mask"),
    (["photo.jpg", "a cat", "--box", "0,0,9,9", "--keep-background"], "needs a concept"),
    (["photo.jpg", "a cat", "--denoising-strength", "0"], "--denoising-strength"),
    (["photo.jpg", "a <rex>", "--box", "0,0,9,9"], "no concept of that name"),
    (["photo.jpg", "a cat", "--replace", "cup"], "no segmenter on this machine"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "said"), WRONG)
def test_wrong_input_is_answered_with_a_sentence(
    run: Run, photo: Image.Image, tmp_path: Path, arguments: list[str], said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("PERFUSION_SEGMENTER", "none")
    Image.new("L", (60, 40)).save(tmp_path / "mask.png")
    Image.new("L", photo.size).save(tmp_path / "black.png")
    (tmp_path / "text.jpg").write_text("hello")
    assert said in refused(run("edit", *arguments))
    assert not list(tmp_path.glob("*.safetensors"))


def test_wrong_input_is_answered_before_torch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(staging.encoded(staging.picture()))
    script = (
        "import sys\n"
        "from api.cli.commands import build\n"
        "from perfusion_core.errors import EditError\n"
        "try:\n"
        "    build()(['edit', 'a.png', 'a cat', '--box', '0,0,9999,9'], standalone_mode=False)\n"
        "except EditError:\n"
        "    print('torch' in sys.modules)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert ended.stdout == "False\n", ended.stderr

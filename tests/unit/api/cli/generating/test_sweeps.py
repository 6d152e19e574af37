"""`perfusion generate --sweep` on a tiny base model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from perfusion_core.strength import beta_from_strength
from tests.integration.stack.tiny_base import write_tiny_base
from tests.unit.api.cli.test_commands import Run, picture_file, refused

TRAIN = ("train", "a.png", "--name", "rex", "--superclass", "robot", "--steps", "1")
SWEEP = ("generate", "a <rex>", "--steps", "1", "--out", "swept")


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def trained() -> dict[str, bytes]:
    """Return the concept file that the first test of this module trains."""
    return {}


@pytest.fixture
def rex(
    run: Run,
    tmp_path: Path,
    base_folder: Path,
    trained: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Serve the tiny base model; write the file of a concept that no evaluator has judged."""
    monkeypatch.setenv("PERFUSION_BASE_MODEL", str(base_folder))
    monkeypatch.setenv("PERFUSION_EVALUATOR", "none")
    if not trained:
        picture_file(tmp_path)
        code, _, err = run(*TRAIN, "--batch-size", "1")
        assert code == 0, err
        trained["rex"] = (tmp_path / "rex.safetensors").read_bytes()
    (tmp_path / "rex.safetensors").write_bytes(trained["rex"])


def written(file: Path) -> dict[str, Any]:
    """Return what an image file says of its making."""
    said: dict[str, Any] = json.loads(Image.open(file).info["perfusion"])
    return said


@pytest.mark.usefixtures("rex")
def test_a_sweep_writes_the_image_of_each_cell_and_a_contact_sheet(
    run: Run, tmp_path: Path
) -> None:
    axes = ("--sweep", "beta=0.8,0.4", "--sweep", "seed=3,9", "--tau", "rex=0.1", "--beta", "rex=1")
    code, out, err = run(*SWEEP, *axes)
    assert code == 0, err
    assert out.split() == [f"swept/{name}.png" for name in ("3", "3-2", "9", "9-2", "sheet")]
    *images, sheet = (tmp_path / file for file in out.split())
    said = [written(file) for file in images]
    used = [each["concepts"][0] for each in said]
    gates = [(use["beta"], use["tau"], each["seed"]) for use, each in zip(used, said, strict=True)]
    assert gates == [(0.8, 0.1, 3), (0.4, 0.1, 3), (0.8, 0.1, 9), (0.4, 0.1, 9)]
    cell = Image.open(images[0])
    assert Image.open(sheet).width > 2 * cell.width
    alone = run(
        "generate", "a <rex>", "--steps", "1", "--seed", "9", "--beta", "rex=0.4", *axes[4:6]
    )
    pixels = [np.asarray(Image.open(file)) for file in (images[3], tmp_path / alone[1].strip())]
    assert (pixels[0] == pixels[1]).all()


@pytest.mark.usefixtures("rex")
def test_cells_of_other_prompts_have_their_own_concepts_and_the_seed_of_all(
    run: Run, tmp_path: Path
) -> None:
    code, out, err = run(*SWEEP, "--sweep", "prompt=a <rex:0.6>|a robot, red")
    assert code == 0, err
    first, second = (written(tmp_path / file) for file in out.split()[:2])
    assert first["seed"] == second["seed"]
    assert [use["beta"] for use in first["concepts"]] == [beta_from_strength(0.6)]
    assert second["concepts"] == []
    assert second["request"]["prompt"] == "a robot, red"


@pytest.mark.usefixtures("rex")
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--sweep", "seed"), "--sweep takes FIELD=VALUES, such as seed=1,2,3, not 'seed'."),
        (("--sweep", "seed=1,x"), "--sweep seed, value 'x': This must be a whole number."),
        (("--sweep", "strength:rex=0.5,2"), "value 2: This must be less than 1."),
        (("--sweep", "width=64"), "--sweep width: There is no such axis."),
        (("--sweep", "beta:teddy=0.5"), "<teddy>"),
        (("--sweep", "prompt=a <rex>|a cup", "--sweep", "beta:rex=0.5"), "'a cup'"),
        (("--sweep", "prompt=a <rex>|a cup", "--beta", "rex=0.5"), "'a cup'"),
        (("--sweep", "denoising_strength=0.5"), "no picture is edited here"),
        (("--sweep", f"seed={','.join('1' * 65)}"), "64 cells at most; this one has 65."),
        (("--sweep", "seed=1", "--sweep", "seed=2"), "Both axes vary the same."),
        (("--sweep", "seed=1", "--num-images", "2"), "--num-images: Each cell"),
        (("--sweep", "num_inference_steps=1,5000"), "value 5000"),
    ],
)
def test_a_sweep_that_cannot_be_made_is_refused_before_its_first_image(
    run: Run, tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    assert told in refused(run(*SWEEP, *options))
    assert not list((tmp_path / "swept").glob("*.png"))


def test_a_strength_without_a_name_needs_a_prompt_with_one_concept(run: Run) -> None:
    sentence = refused(run("generate", "a <rex> and a <tom>", "--sweep", "strength=0.2,0.4"))
    assert "the prompt has 2 concepts: write strength:NAME=0.2,0.4." in sentence

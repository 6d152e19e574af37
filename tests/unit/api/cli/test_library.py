"""`perfusion train`, `generate` and `prepare` with the shipped base model."""

import json
from pathlib import Path

import pytest
from PIL import Image

from perfusion_core.concept import Concept
from perfusion_core.evaluation.curve import recommended_strength
from perfusion_core.strength import beta_from_strength
from tests.unit.api.cli.test_commands import Run, picture_file, refused, run
from tests.unit.service import staging

__all__ = ["run"]  # the fixture


@pytest.fixture(scope="module")
def taught() -> dict[str, bytes]:
    """Return the concept files that a test of this module has trained; one training serves all."""
    return {}


@pytest.fixture
def rex(run: Run, tmp_path: Path, taught: dict[str, bytes]) -> Concept:
    """Train a concept for two steps with the command; return it."""
    file = tmp_path / "rex.safetensors"
    mask = staging.encoded(Image.new("L", (48, 40), "white"))
    (tmp_path / "mask.png").write_bytes(mask)
    picture = picture_file(tmp_path)
    if not taught:
        code, out, err = run(
            "train", picture, "--mask", "mask.png", "--name", "rex",
            "--superclass", "robot", "--steps", "2", "--batch-size", "2", "--no-flip",
        )  # fmt: skip
        assert code == 0, err
        assert out.startswith("rex.safetensors: <rex>")
        assert "Best at β = " in out.splitlines()[1]
        taught["rex"] = file.read_bytes()
    file.write_bytes(taught["rex"])
    return Concept.load(file)


def test_a_concept_is_taught_and_used_without_a_server(
    run: Run, rex: Concept, tmp_path: Path
) -> None:
    assert (rex.name, rex.superclass, rex.mask_source) == ("rex", "robot", "upload")
    assert rex.training["max_train_steps"] == 2
    assert rex.training["flip"] is False
    assert rex.curve is not None

    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "8.png").touch()
    code, out, err = run(
        "generate", "a photo of <rex:0.6>", "--steps", "2", "--seed", "7", "--num-images", "2",
        "--scheduler", "dpmpp_2m", "--out", "made",
    )  # fmt: skip
    assert code == 0, err
    # An image is never overwritten.
    assert out.split() == ["made/7.png", "made/8-2.png"]
    image = Image.open(tmp_path / "made" / "7.png")
    assert image.size[0] >= 32
    assert "Steps: 2" in image.info["parameters"]
    assert json.loads(image.info["perfusion"])["concepts"][0]["name"] == "rex"

    code, out, err = run(
        "generate", "a <rex>", "--steps", "1", "--seed", "1", "--out", "made", "--attention-maps",
    )  # fmt: skip
    assert code == 0, err
    files = ["made/1.png", "made/1.attention-0-a.png", "made/1.attention-1-rex.png"]
    assert [line.split()[0] for line in out.splitlines()] == files
    assert Image.open(tmp_path / files[2]).size == image.size

    rex.renamed("other").save(tmp_path / "other.safetensors")
    sentence = refused(run("generate", "a <rex>", "--concept", "other.safetensors", "--steps", "1"))
    assert "<other>" in sentence


def test_a_gate_comes_from_the_options_the_prompt_the_file_or_the_locking(
    run: Run, rex: Concept, tmp_path: Path
) -> None:
    assert rex.curve is not None
    recommended = beta_from_strength(recommended_strength(rex.curve))
    cases: dict[tuple[str, ...], tuple[float, float]] = {
        ("a <rex>",): (recommended, 0.15),
        ("a <rex>", "--locking", "global"): (0.5, 0.15),
        ("a <rex:0.6>",): (beta_from_strength(0.6), 0.15),
        ("a <rex>", "--beta", "rex=0.4"): (0.4, 0.15),
        ("a <rex:0.6>", "--beta", "rex=0.45", "--tau", "rex=0.1"): (0.45, 0.1),
    }
    for arguments, (beta, tau) in cases.items():
        code, out, err = run("generate", *arguments, "--steps", "1", "--seed", "3")
        assert code == 0, err
        used = json.loads(Image.open(tmp_path / out.strip()).info["perfusion"])["concepts"][0]
        assert (used["beta"], used["tau"]) == (beta, tau), arguments


def test_a_base_model_is_prepared_with_captions_of_ones_own(run: Run, tmp_path: Path) -> None:
    from perfusion_core.covariance.estimate import Covariance

    shipped = Path(__file__).parents[4] / "models" / "base"
    words = ["a photo of a robot", "a teddy on the beach", "a red car", "two dogs at night"]
    (tmp_path / "captions.txt").write_text("\n".join(words * 200), "utf-8")
    code, out, err = run("prepare", str(shipped), "--captions", "captions.txt")
    assert code == 0, err
    assert "fingerprint: " in out
    assert "condition number: " in out
    (kept,) = (tmp_path / "data" / "covariance").iterdir()
    assert Covariance.load(kept).fingerprint in out
    assert "cannot be loaded" in refused(run("prepare", str(tmp_path)))

"""`perfusion train` and `generate` on a tiny base model, with the shipped evaluator."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from perfusion_core.concept import Concept
from perfusion_core.evaluation.curve import recommended_strength
from perfusion_core.strength import beta_from_strength
from service.settings.environment import SHIPPED_BASE_MODEL
from tests.integration.stack.tiny_base import write_tiny_base
from tests.unit.api.cli.test_commands import Run, picture_file, refused, run
from tests.unit.service import staging

__all__ = ["run"]  # the fixture


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tiny_base(tmp_path_factory.mktemp("models") / "tiny")
    own = {"generate": {"num_inference_steps": 3}, "known_superclasses": ["teddy", "rabbit"]}
    (folder / "perfusion.json").write_text(json.dumps(own))
    return folder


@pytest.fixture(autouse=True)
def served(base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFUSION_BASE_MODEL", str(base_folder))
    monkeypatch.setenv("PERFUSION_EVALUATOR", str(SHIPPED_BASE_MODEL.with_name("evaluator")))


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
        assert "not trained to draw 'robot'" in err
        assert "Nearest in spelling: rabbit. It knows: teddy, rabbit." in err
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
    assert image.size == (16, 16)  # the base model's own
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


def test_an_image_that_diverges_is_an_error_and_no_file(
    run: Run, rex: Concept, tmp_path: Path
) -> None:
    replace(rex, o_v=np.full_like(rex.o_v, 1e38)).save(tmp_path / "rex.safetensors")
    command = ("generate", "a <rex>", "--beta", "rex=-5", "--steps", "1", "--seed", "9")
    assert "The image of seed 9 diverged" in refused(run(*command))
    assert not list(tmp_path.glob("*9*.png"))


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


def test_a_concept_of_a_sibling_is_used_where_the_caller_asks_for_it_and_is_warned(
    run: Run, rex: Concept, tmp_path: Path
) -> None:
    elsewhere = replace(rex, base_model_fingerprint="0" * 32)
    elsewhere.save(tmp_path / "rex.safetensors")
    command = ("generate", "a <rex>", "--steps", "1", "--seed", "4")
    assert "0" * 32 in refused(run(*command))
    code, out, err = run(*command, "--adapt")
    assert code == 0, err
    assert (
        f"<rex>: It was trained on another base model or covariance ({rex.base_model_name}" in err
    )
    used = json.loads(Image.open(tmp_path / out.strip()).info["perfusion"])["concepts"][0]
    assert used["beta"] == 0.7  # its curve is of the other base model
    assert rex.shared_parts is not None
    parts = replace(rex.shared_parts, text_encoders_fingerprint="0" * 32)
    replace(elsewhere, shared_parts=parts).save(tmp_path / "rex.safetensors")
    assert "text encoders differ" in refused(run(*command, "--adapt"))


def test_precision_and_offloading_are_options_of_the_command_and_refused_where_impossible(
    run: Run,
) -> None:
    options = ("--device", "cpu", "--steps", "1", "--seed", "1")
    for option, value in (("--dtype", "float16"), ("--offload", "model")):
        sentence = refused(run("generate", "a robot", *options, option, value))
        assert f"PERFUSION_{option[2:].upper()} to" in sentence
    code, out, err = run("generate", "a robot", *options, "--dtype", "bfloat16")
    assert code == 0, err
    assert out.strip() == "1.png"

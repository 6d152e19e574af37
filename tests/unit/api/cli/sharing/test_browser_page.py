"""`perfusion browser-page` refuses what it cannot make before it loads anything."""

from pathlib import Path

import pytest

from api.cli.sharing import onnxruntime_web
from perfusion_core.base_model import BaseModel
from perfusion_core.covariance.captions import captions
from tests.unit.api.cli.test_commands import Run, refused, run
from tests.unit.perfusion_core.conftest import tiny_pipeline
from tests.unit.perfusion_core.export.test_lora import random_concept

__all__ = ["run"]  # the fixture


@pytest.fixture
def rex(tmp_path: Path) -> str:
    """A prompt of the concept file rex.safetensors."""
    base = BaseModel.from_pipeline(tiny_pipeline("sd1"), name="tiny", device="cpu")
    base.estimate_covariance(captions(300, known=base.knows_word))
    random_concept(base).save(tmp_path / "rex.safetensors")
    return "a photo of <rex>"


def test_a_prompt_without_a_concept_is_refused(run: Run) -> None:
    told = refused(run("browser-page", "a photo of a dog"))
    assert "names no concept: write one into it, such as <rex>" in told


def test_a_prompt_of_an_unknown_concept_is_refused(run: Run) -> None:
    assert "add --concept FILE" in refused(run("browser-page", "a photo of <nemo>"))


def test_another_package_than_the_known_one_is_refused(run: Run, rex: str, tmp_path: Path) -> None:
    told = refused(run("browser-page", rex, "--runtime", "other.tgz"))
    assert "There is no file other.tgz." in told
    (tmp_path / "other.tgz").write_bytes(b"something else")
    told = refused(run("browser-page", rex, "--runtime", "other.tgz"))
    assert f"other.tgz is not onnxruntime-web {onnxruntime_web.VERSION}" in told
    assert not (tmp_path / "data" / "play").exists()


def test_without_npm_the_package_can_be_named(
    run: Run, rex: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    told = refused(run("browser-page", rex))
    assert "install Node.js" in told and "--runtime onnxruntime-web-" in told

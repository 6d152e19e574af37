"""What the shipped base model must be as a set of files, whatever it draws."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from perfusion_core.base_model import COVARIANCE_FILE, BaseModel
from perfusion_core.covariance.captions import captions
from perfusion_core.covariance.estimate import CAPTION_COUNT, Covariance, estimate
from tests.unit.perfusion_core.conftest import SHIPPED

# A tokenizer's table holds patterns, which look like paths.
CONFIGURATIONS = sorted(file for file in SHIPPED.rglob("*.json") if file.name != "tokenizer.json")
WEIGHTS = sorted(SHIPPED.glob("*/*.safetensors"))


@pytest.mark.parametrize("file", WEIGHTS, ids=lambda file: file.parent.name)
def test_its_weights_are_in_half_precision(file: Path) -> None:
    with safe_open(file, framework="pt") as weights:
        kinds = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
    assert kinds == {"F16"}


@pytest.mark.parametrize("file", CONFIGURATIONS, ids=lambda file: str(file.relative_to(SHIPPED)))
def test_no_configuration_names_a_folder_of_the_machine_that_made_it(file: Path) -> None:
    assert [text for text in _texts(json.loads(file.read_text())) if _is_path(text)] == []


def test_a_folder_of_a_machine_is_recognised() -> None:
    made = {"_name_or_path": "/home/me/vae", "parts": [{"from": "C:\\models"}, "~/cache", "a/b"]}
    assert [text for text in _texts(made) if _is_path(text)] == [
        "/home/me/vae", "C:\\models", "~/cache"
    ]  # fmt: skip


def test_the_covariance_is_of_the_built_in_captions_on_these_weights(shipped: BaseModel) -> None:
    # The fingerprint names the captions and the base model, so quick encodings give the same one.
    again = estimate(
        captions(CAPTION_COUNT, known=shipped.knows_word),
        lambda batch: torch.eye(shipped.encoding_width)[None],
        base_model_fingerprint=shipped.fingerprint,
        ridge_unit="mean",
    )
    kept = Covariance.load(SHIPPED / COVARIANCE_FILE)
    assert kept.caption_count == CAPTION_COUNT
    assert kept.fingerprint == again.fingerprint == shipped.covariance_fingerprint


def test_the_covariance_fits_what_the_text_encoder_says(shipped: BaseModel) -> None:
    few = BaseModel.load(SHIPPED, device="cpu").estimate_covariance(count=200)
    kept = shipped.covariance
    correlation = float((few.C * kept.C).sum() / few.C.norm() / kept.C.norm())
    assert correlation > 0.99


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for part in value.values() for text in _texts(part)]
    if isinstance(value, list):
        return [text for part in value for text in _texts(part)]
    return [value] if isinstance(value, str) else []


def _is_path(text: str) -> bool:
    return text.startswith(("/", "~")) or text[1:3] in (":\\", ":/")

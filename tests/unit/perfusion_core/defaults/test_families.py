"""A base model without values of its own gets its family's."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from perfusion_core.base_model import BaseModel
from perfusion_core.config import GenerateConfig, TrainConfig
from perfusion_core.covariance.captions import captions
from perfusion_core.defaults.bounds import too_large
from perfusion_core.defaults.families import FAMILY_DEFAULTS, family_defaults
from tests.unit.perfusion_core.conftest import tiny_pipeline

SIDES = {"sd1": 512, "sd2": 768, "sdxl": 1024}


def test_stable_diffusion_1_has_the_papers_values() -> None:
    defaults = family_defaults("sd1")
    assert defaults.train_config() == TrainConfig()
    assert defaults.generate_config() == GenerateConfig()


@pytest.mark.parametrize("family", FAMILY_DEFAULTS)
def test_a_familys_defaults_are_within_every_bound(family: str) -> None:
    defaults = family_defaults(family)
    for config in (defaults.train_config(), defaults.generate_config()):
        assert too_large(config, resolution=SIDES[family]) == {}


def test_sdxl_trains_in_smaller_batches_and_says_so(tiny: Callable[[str], BaseModel]) -> None:
    base = tiny("sdxl")
    assert base.defaults.train_config().train_batch_size == 4
    told = family_defaults("sdxl")
    assert base.describe()["defaults"] == {
        "train": told.train,
        "generate": {**told.generate, "scheduler": "ddim"},  # the tiny model's own
    }


def test_a_base_models_own_values_come_before_its_familys(tmp_path: Path) -> None:
    tiny_pipeline("sdxl").save_pretrained(tmp_path)
    own = {"train": {"max_train_steps": 50}, "generate": {"guidance_scale": 3.0}}
    (tmp_path / "perfusion.json").write_text(json.dumps(own))
    made = BaseModel.from_pipeline(tiny_pipeline("sdxl"), name="x", device="cpu")
    made.estimate_covariance(captions(100, known=made.knows_word))
    made.covariance.save(tmp_path / "covariance.safetensors")
    defaults = BaseModel.load(tmp_path, device="cpu").defaults
    assert defaults.train == {"train_batch_size": 4, "max_train_steps": 50}
    assert defaults.generate == {"guidance_scale": 3.0, "scheduler": "ddim"}

"""Hyper-parameters: bounds, and a base model's own defaults."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from perfusion_core.config import GenerateConfig, TrainConfig, read_defaults
from perfusion_core.defaults.bounds import max_sides, too_large
from perfusion_core.errors import BaseModelError


@pytest.mark.parametrize(
    "wrong",
    [{"seed": 10**40}, {"seed": -1}, {"learning_rate": float("nan")}, {"flip": 1},
     {"max_train_steps": 0}, {"max_train_steps": "5"}, {"resolution": 65}, {"unknown": 1}],
)  # fmt: skip
def test_a_value_outside_its_bounds_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainConfig(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"scheduler": "magic"}, {"guidance_scale": float("inf")}, {"num_images": 17}]
)
def test_a_wrong_way_to_sample_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GenerateConfig(**wrong)


def test_the_callers_options_win_over_the_base_models_and_those_over_the_papers(
    tmp_path: Path,
) -> None:
    (tmp_path / "perfusion.json").write_text('{"train": {"learning_rate": 0.01, "seed": 5}}')
    config = read_defaults(tmp_path).train_config({"seed": 6})
    assert (config.learning_rate, config.seed, config.train_batch_size) == (0.01, 6, 16)
    assert read_defaults(tmp_path / "nowhere").train_config() == TrainConfig()


@pytest.mark.parametrize("wrong", ["[", "[]", '{"other": {}}', '{"train": {"seed": -1}}'])
def test_broken_defaults_of_a_base_model_are_refused_in_a_sentence(
    tmp_path: Path, wrong: str
) -> None:
    (tmp_path / "perfusion.json").write_text(wrong)
    with pytest.raises(BaseModelError, match=r"perfusion\.json .* is not valid"):
        read_defaults(tmp_path)


def test_the_shipped_model_has_defaults_of_its_own() -> None:
    shipped = Path(__file__).parents[3] / "models" / "base"
    assert read_defaults(shipped).train_config().max_train_steps < TrainConfig().max_train_steps
    assert json.loads((shipped / "perfusion.json").read_text())["generate"]


@pytest.mark.parametrize("resolution", [16, 64, 512, 1024])
def test_the_base_models_own_size_and_what_it_tells_as_largest_are_not_too_large(
    resolution: int,
) -> None:
    sides = max_sides(resolution)
    train, generate = sides["train"]["resolution"], sides["generate"]["width"]
    for fits in (
        TrainConfig(train_batch_size=64),
        TrainConfig(train_batch_size=16, resolution=train),
        GenerateConfig(),
        GenerateConfig(width=generate, height=32),
        GenerateConfig(width=2 * resolution, height=2 * resolution),
    ):
        assert too_large(fits, resolution=resolution) == {}


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (GenerateConfig(width=2048, height=2048), {"width", "height"}),
        (GenerateConfig(width=1024, height=1032), {"width", "height"}),
        (GenerateConfig(height=2056 - 8), set()),  # 512 wide: four times the model's own
        (TrainConfig(resolution=1032), {"resolution"}),
        (TrainConfig(resolution=1024, train_batch_size=17), {"train_batch_size"}),
        (TrainConfig(resolution=520, train_batch_size=64), {"train_batch_size"}),
    ],
)
def test_what_has_more_pixels_than_the_base_model_allows_is_named_in_a_sentence(
    config: TrainConfig | GenerateConfig, names: set[str]
) -> None:
    wrong = too_large(config, resolution=512)
    assert set(wrong) == names
    assert all(sentence.endswith(".") for sentence in wrong.values())

"""The evaluator of a worker: which one the settings name, and what becomes of a failed load."""

from pathlib import Path

from perfusion_core.base_model import BaseModel
from service.settings.environment import SHIPPED_BASE_MODEL, Settings
from worker.models import evaluators
from worker.models.evaluators import Evaluators

SHIPPED = SHIPPED_BASE_MODEL.with_name("evaluator")


def test_the_shipped_evaluator_goes_with_the_shipped_base_model_and_clip_l_with_any_other() -> None:
    def name(**options: str) -> str | None:
        return evaluators.name_of(Settings.model_validate(options))

    assert name() == str(SHIPPED)
    assert name(base_model="stable-diffusion-v1-5/stable-diffusion-v1-5") == evaluators.DEFAULT
    assert evaluators.DEFAULT == "openai/clip-vit-large-patch14"
    assert name(evaluator="none") is None
    assert name(base_model="x/y", evaluator="some/clip") == "some/clip"


def test_an_evaluator_is_loaded_once_and_one_that_cannot_be_is_none(
    base: BaseModel, tmp_path: Path
) -> None:
    shipped, broken = Evaluators(Settings()), Evaluators(Settings(evaluator=str(tmp_path)))
    for each in (shipped, broken):
        each.load(base)
    assert shipped.for_base_model(base) is shipped.for_base_model(base) is not None
    assert broken.for_base_model(base) is None
    assert (shipped.loaded_name, shipped.problem) == (str(SHIPPED), None)
    assert broken.loaded_name is None
    assert "Concepts are not judged." in (broken.problem or "")

"""When and how concepts are tried out: by the options alone, held out, and for a bounded share."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfusion_core.config import BaseModelDefaults, TrainConfig
from perfusion_core.evaluation.curve import STRENGTHS
from perfusion_core.evaluation.eval_prompts import (
    INFERENCE_STEPS,
    PROOF,
    curve_prompts,
    eval_schedule,
    image_config,
    judging_of,
)
from perfusion_core.text.templates import TEMPLATES

configs = st.builds(
    TrainConfig,
    max_train_steps=st.integers(1, 20_000),
    train_batch_size=st.integers(1, 64),
    background_weight=st.sampled_from([0.0, 10.0]),
)


def share(config: TrainConfig, images: int) -> float:
    """What so many images cost, in rows forward through the U-Net, of what the training costs.

    Of its least cost, with a background_weight as well: masks may leave nothing around the object.
    """
    return images * 2 * INFERENCE_STEPS / (3 * config.max_train_steps * config.train_batch_size)


@given(configs)
def test_looks_are_few_rise_to_the_last_step_and_cost_two_fifths_at_most(
    config: TrainConfig,
) -> None:
    plan = eval_schedule(config)
    assert plan == eval_schedule(config)
    assert len(plan.steps) <= 8
    assert list(plan.steps) == sorted(set(plan.steps))
    if plan.steps:
        assert plan.steps[0] >= 1
        assert plan.steps[-1] == config.max_train_steps
        assert share(config, (len(plan.steps) + 1) * len(plan.eval_prompts)) <= 0.4


@given(configs)
def test_a_curve_costs_two_fifths_or_one_trial_at_each_strength(config: TrainConfig) -> None:
    eval_prompts = curve_prompts(config, steps=config.max_train_steps)
    images = len(eval_prompts) * (len(STRENGTHS) + 1)
    assert len(eval_prompts) == 1 or share(config, images) <= 0.4


def test_the_usual_trainings_are_looked_at_and_tried_in_more_than_one_scene() -> None:
    for config in (
        TrainConfig(),
        TrainConfig(max_train_steps=160, train_batch_size=8),  # the shipped base model's
    ):
        assert len(eval_schedule(config).steps) >= 7
        assert len({eval_prompt.prompt for eval_prompt in eval_schedule(config).eval_prompts}) >= 4
        eval_prompts = curve_prompts(config, steps=config.max_train_steps)
        assert len({eval_prompt.prompt for eval_prompt in eval_prompts}) == 3
        assert len({eval_prompt.seed for eval_prompt in eval_prompts}) == len(eval_prompts) >= 5


@pytest.mark.parametrize("options", [{"early_stopping": False}, {"max_train_steps": 3}])
def test_without_early_stopping_and_in_short_trainings_nobody_looks(
    options: dict[str, int],
) -> None:
    assert eval_schedule(TrainConfig(**options)).steps == ()  # type: ignore[arg-type]


def test_no_trial_is_a_training_prompt_and_looks_and_curve_share_nothing() -> None:
    config = TrainConfig(max_train_steps=20_000)
    seen, tried = eval_schedule(config).eval_prompts, curve_prompts(config, steps=20_000)
    assert not {eval_prompt.prompt for eval_prompt in (*seen, *tried)} & set(TEMPLATES)
    assert not {eval_prompt.prompt for eval_prompt in seen} & {
        eval_prompt.prompt for eval_prompt in tried
    }
    assert not {eval_prompt.seed for eval_prompt in seen} & {
        eval_prompt.seed for eval_prompt in tried
    }


def test_a_proof_is_half_in_places_as_the_curve_and_half_plain() -> None:
    usual = curve_prompts(TrainConfig(max_train_steps=80, train_batch_size=8), steps=80)
    assert PROOF[:4] == usual[:4]
    assert {eval_prompt.prompt for eval_prompt in PROOF[4:]} == {"a photo of a {}"}
    assert len({eval_prompt.seed for eval_prompt in PROOF}) == len(PROOF) == 8
    looked_at = eval_schedule(TrainConfig(max_train_steps=20_000)).eval_prompts
    assert not {eval_prompt.seed for eval_prompt in PROOF} & {
        eval_prompt.seed for eval_prompt in looked_at
    }


def test_the_version_of_the_judging_is_of_how_images_are_drawn_and_of_no_training() -> None:
    def version(**generate: float | int) -> str:
        return judging_of(BaseModelDefaults(train={"max_train_steps": 7}, generate=generate))

    assert version() == judging_of(BaseModelDefaults())
    assert version(num_inference_steps=99) == version()  # a trial has its own
    assert version(guidance_scale=3.0) != version()


@pytest.mark.parametrize(
    ("own", "quick"),
    [
        ({"scheduler": "ddim"}, ("dpmpp_2m", 12)),
        ({"scheduler": "euler"}, ("euler", 12)),  # SDXL
        ({"scheduler": "lcm", "num_inference_steps": 4}, ("lcm", 4)),
        ({}, ("dpmpp_2m", 12)),
    ],
)
def test_quick_images_take_the_base_models_own_scheduler_and_never_more_steps(
    own: dict[str, Any], quick: tuple[str, int]
) -> None:
    defaults = BaseModelDefaults(generate={**own, "guidance_scale": 0.0})
    drawn = image_config(defaults, seed=7)
    assert (drawn.scheduler, drawn.num_inference_steps) == quick
    assert (drawn.guidance_scale, drawn.seed, drawn.locking) == (0.0, 7, "local")

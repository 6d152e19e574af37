"""Evaluations of a training: an interruption makes no difference, and a failure costs little."""

from collections.abc import Callable

import pytest

from perfusion_core.base_model import BaseModel
from perfusion_core.callbacks import Check, RunOnDevice
from perfusion_core.concept import Concept
from perfusion_core.errors import Interrupted
from perfusion_core.evaluation.eval_prompts import eval_schedule
from perfusion_core.evaluators.similarity import Evaluator
from perfusion_core.evaluators.training_evaluator import TrainingEvaluator
from perfusion_core.training.trainer import Training, train
from tests.unit.perfusion_core.conftest import drawing

PICTURES = [drawing(), drawing(96)]
# With so large a batch few steps pay for five evaluations.
OPTIONS = {"max_train_steps": 16, "train_batch_size": 32}
LookAt = Callable[[Training, Check], TrainingEvaluator]


def begin(base: BaseModel, state: bytes | None = None) -> Training:
    return train(
        base, PICTURES, name="rex", superclass="robot", state=state,
        config=base.defaults.train_config(OPTIONS),
    )  # fmt: skip


@pytest.fixture
def look_at(evaluator: Evaluator, run_on_device: RunOnDevice) -> LookAt:
    def look_at(training: Training, check: Check) -> TrainingEvaluator:
        return TrainingEvaluator(
            training,
            evaluator=evaluator,
            pictures=PICTURES,
            run_on_device=run_on_device,
            check=check,
        )

    return look_at


def follow(training: Training, evaluator: TrainingEvaluator) -> Concept:
    """As worker/jobs/train.py does."""
    while True:
        evaluator.evaluate_when_due()
        if next(training, None) is None:
            return evaluator.evaluated_concept()


@pytest.mark.slow
def test_a_training_killed_in_the_middle_of_a_look_ends_with_the_same_bytes(
    look_at: LookAt, base: BaseModel
) -> None:
    whole = begin(base)
    expected = follow(whole, look_at(whole, lambda: None))
    first = begin(base)
    assert eval_schedule(first.config).steps == (3, 6, 9, 12, 16)

    def interrupted() -> None:
        if first.step == 6:
            raise Interrupted

    with pytest.raises(Interrupted):
        follow(first, look_at(first, interrupted))
    second = begin(base, state=first.state())
    assert second.step == 6
    resumed = follow(second, look_at(second, lambda: None))
    assert resumed.to_bytes() == expected.to_bytes()
    assert resumed.curve is not None
    assert resumed.training["steps"] in eval_schedule(first.config).steps


@pytest.mark.slow
def test_a_look_that_fails_leaves_a_training_that_nobody_looks_at(
    look_at: LookAt, base: BaseModel, caplog: pytest.LogCaptureFixture
) -> None:
    plain = begin(base)
    list(plain)
    training = begin(base)

    def broken() -> None:
        if training.step == 6:
            raise RuntimeError("no more")

    evaluator = look_at(training, broken)
    concept = follow(training, evaluator)
    assert concept.to_bytes() == plain.concept().to_bytes()
    assert caplog.messages == ["training.not_judged"]

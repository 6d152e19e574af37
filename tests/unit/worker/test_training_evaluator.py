"""Looking at a training through the worker: an interruption makes no difference."""

from collections.abc import Callable, Iterator

import pytest

from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from perfusion_core.evaluation.eval_prompts import eval_schedule
from perfusion_core.evaluators.training_evaluator import TrainingEvaluator
from perfusion_core.training.trainer import Training, train
from service.wiring import Service
from tests.unit.worker.staging import drawing, workers
from worker.context import WorkerContext
from worker.errors import Draining

PICTURES = [drawing(), drawing(96)]
# With so large a batch few steps pay for five looks.
OPTIONS = {"max_train_steps": 16, "train_batch_size": 32}


@pytest.fixture
def looking_parts(make_service: Callable[..., Service], base: BaseModel) -> Iterator[WorkerContext]:
    with workers(make_service(evaluator="auto"), base) as make:
        yield make()


def begin(base: BaseModel, state: bytes | None = None) -> Training:
    return train(
        base, PICTURES, name="rex", superclass="robot", state=state,
        config=base.defaults.train_config(OPTIONS),
    )  # fmt: skip


def look_at(
    training: Training, context: WorkerContext, *, check: Callable[[], None]
) -> TrainingEvaluator:
    return TrainingEvaluator(
        training,
        evaluator=context.evaluator,
        pictures=PICTURES,
        run_on_device=context.engine.run_on_device,
        check=check,
    )


def follow(training: Training, looking: TrainingEvaluator) -> Concept:
    """As worker/jobs/train.py does."""
    while True:
        looking.evaluate_when_due()
        if next(training, None) is None:
            return looking.judged()


def test_a_training_killed_in_the_middle_of_a_look_ends_with_the_same_bytes(
    looking_parts: WorkerContext, base: BaseModel
) -> None:
    whole = begin(base)
    expected = follow(whole, look_at(whole, looking_parts, check=lambda: None))
    first = begin(base)
    assert eval_schedule(first.config).steps == (3, 6, 9, 12, 16)

    def drained() -> None:
        if first.step == 6:
            raise Draining

    with pytest.raises(Draining):
        follow(first, look_at(first, looking_parts, check=drained))
    second = begin(base, state=first.state())
    assert second.step == 6
    resumed = follow(second, look_at(second, looking_parts, check=lambda: None))
    assert resumed.to_bytes() == expected.to_bytes()
    assert resumed.curve is not None
    assert resumed.training["steps"] in eval_schedule(first.config).steps


def test_a_look_that_fails_leaves_a_training_that_nobody_looks_at(
    looking_parts: WorkerContext, base: BaseModel
) -> None:
    plain = begin(base)
    list(plain)
    training = begin(base)

    def broken() -> None:
        if training.step == 6:
            raise RuntimeError("no more")

    looking = look_at(training, looking_parts, check=broken)
    concept = follow(training, looking)
    assert concept.to_bytes() == plain.concept().to_bytes()

"""Looking at a training through the worker: an interruption makes no difference."""

from collections.abc import Callable

import pytest

from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from perfusion_core.training import Training, train
from perfusion_core.trials import looks
from service.wiring import Service
from tests.unit.worker.staging import drawing
from worker import parts as composition
from worker.errors import Draining
from worker.looking import Looking
from worker.parts import Parts

PICTURES = [drawing(), drawing(96)]
# The fewest steps that are looked at; scores of a model that has hardly begun, but scores.
OPTIONS = {"max_train_steps": 16, "train_batch_size": 64, "resolution": 32, "flip": False}


@pytest.fixture
def looking_parts(make_service: Callable[..., Service], base: BaseModel) -> Parts:
    return composition.build(make_service(evaluator="auto"), base=base)


def begin(base: BaseModel, state: bytes | None = None) -> Training:
    return train(
        base, PICTURES, name="rex", superclass="robot", state=state,
        config=base.defaults.train_config(OPTIONS),
    )  # fmt: skip


def follow(training: Training, looking: Looking) -> Concept:
    """As worker/train_concept.py does."""
    while True:
        looking.look_when_due()
        if next(training, None) is None:
            return looking.judged()


def test_a_training_killed_in_the_middle_of_a_look_ends_with_the_same_bytes(
    looking_parts: Parts, base: BaseModel
) -> None:
    whole = begin(base)
    expected = follow(whole, Looking(looking_parts, whole, pictures=PICTURES, check=lambda: None))
    first = begin(base)
    assert looks(first.config).steps == (3, 6, 9, 12, 16)

    def drained() -> None:
        if first.step == 6:
            raise Draining

    with pytest.raises(Draining):
        follow(first, Looking(looking_parts, first, pictures=PICTURES, check=drained))
    second = begin(base, state=first.state())
    assert second.step == 6
    resumed = follow(second, Looking(looking_parts, second, pictures=PICTURES, check=lambda: None))
    assert resumed.to_bytes() == expected.to_bytes()
    assert resumed.curve is not None
    assert resumed.training["steps"] in looks(first.config).steps

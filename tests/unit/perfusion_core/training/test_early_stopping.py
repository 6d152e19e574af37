"""The best state is kept, an idle training stops, and an interruption changes neither."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perfusion_core.base_model import BaseModel
from perfusion_core.config import TrainConfig
from perfusion_core.evaluation.eval_prompts import eval_schedule
from perfusion_core.training.early_stopping import PATIENCE, EarlyStopping
from perfusion_core.training.trainer import Training
from tests.unit.perfusion_core.training.conftest import begin

WATCHED = TrainConfig(max_train_steps=80, train_batch_size=8)
LOOKS = eval_schedule(WATCHED).steps


def scored(scores: list[float]) -> EarlyStopping:
    """A best state after as many looks as it wanted of these scores."""
    best = EarlyStopping(WATCHED)
    best.watch("evaluator")
    for step, score in zip(LOOKS, scores, strict=False):
        if best.is_due(step):
            best.record(step, score, {"of": torch.tensor(step)})
    return best


@given(st.lists(st.floats(0, 1), min_size=1, max_size=len(LOOKS)))
def test_the_first_of_the_best_scores_so_far_is_kept(scores: list[float]) -> None:
    best = scored(scores)
    looked_at = scores
    for end in range(1, len(scores)):
        seen = scores[:end]
        if end - 1 - seen.index(max(seen)) >= PATIENCE:
            looked_at = seen
            break
    assert best.step == LOOKS[looked_at.index(max(looked_at))]
    assert int(best.tensors["of"]) == best.step


def test_a_training_stops_after_three_looks_without_a_better_score() -> None:
    assert not scored([0.1, 0.5, 0.4, 0.5]).stopped
    assert scored([0.1, 0.5, 0.4, 0.5, 0.3]).stopped
    assert not scored([0.1, 0.5, 0.4, 0.4, 0.6]).stopped


def test_nobody_is_asked_for_scores_unless_somebody_watches() -> None:
    best = EarlyStopping(WATCHED)
    assert not any(best.is_due(step) for step in range(81))
    best.watch("evaluator")
    assert [step for step in range(81) if best.is_due(step)] == list(LOOKS)
    assert best.step is None and not best.stopped


def test_scores_of_another_evaluator_are_forgotten() -> None:
    best = scored([0.5, 0.4])
    best.watch("evaluator")
    assert best.step == LOOKS[0]
    best.watch("another")
    assert best.step is None and best.is_due(LOOKS[0])


# On a base model of a few thousand weights; with so large a batch few steps pay for five looks.
SHORT = TrainConfig(max_train_steps=16, train_batch_size=32)
FALLING = {3: 0.2, 6: 0.9, 9: 0.1, 12: 0.1, 16: 0.9}


def follow(training: Training, scores: dict[int, float], *, until: int = 16) -> Training:
    """Train, scoring what is due, to the end or to the step `until`."""
    training.watch("evaluator")
    while True:
        if training.is_evaluation_due:
            training.record_score(scores[training.step])
        if training.step == until or next(training, None) is None:
            return training


def test_the_concept_of_the_best_score_is_kept_not_the_last(
    tiny: Callable[[str], BaseModel],
) -> None:
    plain = begin(tiny("sd1"), SHORT)
    while plain.step < 6:
        next(plain)
    followed = follow(begin(tiny("sd1"), SHORT), FALLING)
    assert np.array_equal(followed.best().o_v, plain.concept().o_v)
    assert np.array_equal(followed.best().i_star, plain.concept().i_star)
    assert np.array_equal(followed.best().embeddings[0], plain.concept().embeddings[0])
    assert not np.array_equal(followed.best().o_v, followed.concept().o_v)
    assert (followed.best().training["steps"], followed.concept().training["steps"]) == (6, 16)
    assert followed.best().training["stopped_early"] is False  # two looks were no better, not three


def test_what_does_not_get_better_any_more_stops(tiny: Callable[[str], BaseModel]) -> None:
    idle = follow(begin(tiny("sd1"), SHORT), {3: 0.5, 6: 0.4, 9: 0.4, 12: 0.5})
    assert idle.step == 12 and idle.stopped_early
    assert idle.best().training.items() >= {"steps": 3, "stopped_early": True}.items()
    assert next(idle, None) is None


@pytest.mark.slow
@pytest.mark.parametrize("interrupted_after", [2, 6, 10, 12])
def test_a_scored_training_that_was_interrupted_ends_with_the_same_bytes(
    tiny: Callable[[str], BaseModel], interrupted_after: int
) -> None:
    scores = {3: 0.5, 6: 0.7, 9: 0.4, 12: 0.4, 16: 0.6}
    base = tiny("sd1")
    whole = follow(begin(base, SHORT), scores).best().to_bytes()
    first = follow(begin(base, SHORT), scores, until=interrupted_after)
    resumed = follow(begin(base, SHORT, state=first.state()), scores)
    assert resumed.best().to_bytes() == whole


def test_a_state_saved_just_before_its_look_is_looked_at_after_all(
    tiny: Callable[[str], BaseModel],
) -> None:
    base = tiny("sd1")
    first = begin(base, SHORT)
    first.watch("evaluator")
    for _ in range(3):
        next(first)
    resumed = begin(base, SHORT, state=first.state())
    resumed.watch("evaluator")
    assert resumed.is_evaluation_due


def test_a_training_that_stopped_stays_stopped_when_it_is_resumed(
    tiny: Callable[[str], BaseModel],
) -> None:
    scores = {3: 0.5, 6: 0.4, 9: 0.4, 12: 0.5}
    base = tiny("sd1")
    stopped = follow(begin(base, SHORT), scores)
    resumed = follow(begin(base, SHORT, state=stopped.state()), {})
    assert resumed.step == 12
    assert resumed.best().to_bytes() == stopped.best().to_bytes()


def test_a_training_that_nobody_watches_ends_as_ever(tiny: Callable[[str], BaseModel]) -> None:
    training = begin(tiny("sd1"), SHORT)
    list(training)
    assert training.best().to_bytes() == training.concept().to_bytes()
    assert training.concept().training.items() >= {"steps": 16, "stopped_early": False}.items()

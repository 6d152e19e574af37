"""How much evaluations draw, and what is left of a training at the pace so far."""

import pytest

from perfusion_core.evaluation.curve import STRENGTHS
from perfusion_core.evaluation.eval_prompts import PROOF, WHOLE_CURVE, EvalPrompt
from perfusion_core.evaluation.workload import Workload, batches_of, batches_of_curve


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_curve_that_shares_images_with_its_proof_draws_them_once() -> None:
    assert batches_of(WHOLE_CURVE) == [WHOLE_CURVE[:4], WHOLE_CURVE[4:]]
    # Curve and proof share a batch of images, of the superclass and of the concept.
    assert batches_of_curve(WHOLE_CURVE) == 3 + 2 * len(STRENGTHS) + 1
    other = (EvalPrompt("a photo of a {} on the moon", 7),)
    assert batches_of_curve(other) == 3 + len(STRENGTHS) + len(batches_of(PROOF))


def test_what_is_left_is_unknown_until_a_step_is_measured_and_then_includes_all_evaluations() -> (
    None
):
    clock = Clock()
    workload = Workload(image_steps=10, batch_size=8, clock=clock)
    assert workload.seconds_left(steps=4, batches=0) is None
    with workload.step():
        clock.now += 3.0
    assert workload.seconds_left(steps=4, batches=0) == pytest.approx(12.0)
    # 8 trained rows cost 24 passes, and a step of four images costs 8.
    assert workload.seconds_left(steps=4, batches=2) == pytest.approx(12.0 + 2 * 10 * 1.0)
    assert workload.seconds_left(steps=0, batches=2) == pytest.approx(20.0)
    with workload.evaluation():
        for _ in range(10):
            workload.evaluate()
            clock.now += 0.5
        # Measured now, and half of what is left is done.
        assert workload.seconds_left(steps=0, batches=2) == pytest.approx(5.0)
    assert workload.seconds_left(steps=0, batches=2) == pytest.approx(10.0)


def test_previews_count_by_their_share_of_the_time_so_far() -> None:
    clock = Clock()
    workload = Workload(image_steps=10, batch_size=8, clock=clock)
    with workload.step():
        clock.now += 2.0
    with workload.preview():
        clock.now += 0.5
    assert workload.seconds_left(steps=4, batches=0) == pytest.approx(4 * 2.5)


def test_a_judgement_without_a_training_tells_nothing_before_it_is_measured() -> None:
    clock = Clock()
    workload = Workload(image_steps=10, batch_size=None, clock=clock)
    with workload.evaluation():
        workload.evaluate()
        assert workload.seconds_left(steps=0, batches=3) is None
        clock.now += 1.0
        workload.evaluate()
        assert workload.seconds_left(steps=0, batches=3) is not None

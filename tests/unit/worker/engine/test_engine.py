"""Requests in the engine: each gets its own images, in the order of the fair queue."""

import threading
import time
from collections.abc import Sequence

import pytest

from perfusion_core.base_model import BaseModel
from perfusion_core.sampling.trajectories import Batch, Trajectory
from tests.unit.worker.engine.conftest import asking, grey_levels_apart
from worker.engine.engine import Engine
from worker.engine.requests import Request
from worker.errors import Draining


def test_image_k_has_seed_plus_k_and_equals_the_image_of_that_seed(engine: Engine) -> None:
    three = engine.submit(asking(num_images=3, seed=2**32 - 2)).result(timeout_seconds=60)
    assert [sample.seed for sample in three] == [2**32 - 2, 2**32 - 1, 0]
    last = engine.submit(asking(seed=0)).result(timeout_seconds=60)
    assert grey_levels_apart(three[2].image, last[0].image) <= 1


def test_the_same_request_alone_gives_the_same_pixels(engine: Engine) -> None:
    first, second = (
        engine.submit(asking(num_images=2)).result(timeout_seconds=60) for _ in range(2)
    )
    for sample, other in zip(first, second, strict=True):
        assert sample.image.tobytes() == other.image.tobytes()


def test_a_cancelled_request_leaves_within_a_step(engine: Engine) -> None:
    steps: list[int] = []
    seen = threading.Event()

    def on_step(done: int, total: int) -> None:
        steps.append(done)
        seen.set()

    request = engine.submit(asking(num_inference_steps=200), on_step=on_step)
    assert seen.wait(60)
    request.cancel()
    assert request.result(timeout_seconds=60) == []
    assert len(steps) < 200
    assert len(engine.submit(asking()).result(timeout_seconds=60)) == 1


def test_a_younger_request_joins_between_steps_and_the_oldest_ends_first(engine: Engine) -> None:
    ended: list[str] = []
    old = engine.submit(asking(num_inference_steps=12))
    old.future.add_done_callback(lambda _: ended.append("old"))
    time.sleep(0.05)
    young = engine.submit(asking(num_inference_steps=12, seed=2))
    young.future.add_done_callback(lambda _: ended.append("young"))
    old.result(timeout_seconds=60)
    young.result(timeout_seconds=60)
    assert ended == ["old", "young"]


def test_a_lone_request_overtakes_the_many_of_another_owner(base: BaseModel) -> None:
    engine = Engine(lambda: base, max_rows=4)
    ended: list[str] = []
    requests: list[Request] = []

    def submit(name: str, *, owner: str) -> None:
        requests.append(engine.submit(asking(num_inference_steps=3), owner=owner))
        requests[-1].future.add_done_callback(lambda _: ended.append(name))

    for number in range(6):
        submit(f"many {number}", owner="many")
    requests[0].on_step = lambda done, _: submit("lone", owner="lone") if done == 1 else None
    engine.start()
    for request in requests:
        request.result(timeout_seconds=60)
    requests[-1].result(timeout_seconds=60)
    engine.stop()
    assert set(ended[:3]) == {"many 0", "many 1", "lone"}
    assert [name for name in ended if name != "lone"] == [f"many {number}" for number in range(6)]


def test_an_image_of_the_default_size_waits_for_a_share_of_a_long_one_of_another(
    base: BaseModel,
) -> None:
    engine = Engine(lambda: base)
    taken = [0]
    side = 2 * base.default_resolution
    long = asking(num_inference_steps=200, width=side, height=side)
    default: list[Request] = []

    def on_step(done: int, _: int) -> None:
        taken[0] = done
        if done == 1:
            default.append(engine.submit(asking(num_inference_steps=8), owner="default"))
            default[0].future.add_done_callback(lambda _: other.cancel())

    other = engine.submit(long, owner="other", on_step=on_step)
    engine.start()
    other.result(timeout_seconds=120)
    engine.stop()
    # A step of four times the pixels for every four; and one that began before.
    assert default[0].ended and taken[0] <= 1 + 8 // 4 + 1


def test_keys_and_values_are_copied_only_when_the_company_changes(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    class Counted(Batch):
        def __init__(self, trajectories: Sequence[Trajectory], *, rows: int = 0) -> None:
            made.append(len(trajectories))
            super().__init__(trajectories, rows=rows)

    monkeypatch.setattr("worker.engine.packing.Batch", Counted)
    engine = Engine(lambda: base)
    long = engine.submit(asking(num_inference_steps=6))
    short = engine.submit(asking(num_inference_steps=3, seed=2))
    engine.start()
    for request in (long, short):
        request.result(timeout_seconds=60)
    engine.stop()
    assert made == [2, 1]


def test_progress_counts_every_step_of_every_image(engine: Engine) -> None:
    seen: list[tuple[int, int]] = []
    request = asking(num_images=2, num_inference_steps=3)
    engine.submit(request, on_step=lambda *now: seen.append(now)).result(timeout_seconds=60)
    assert seen == [(2, 6), (4, 6), (6, 6)]


def test_stopping_gives_unfinished_requests_back(base: BaseModel) -> None:
    engine = Engine(lambda: base)
    requests: list[Request] = [engine.submit(asking(num_inference_steps=200)) for _ in range(2)]
    engine.start()
    time.sleep(0.1)
    engine.stop()
    for request in [*requests, engine.submit(asking())]:
        with pytest.raises(Draining):
            request.result(timeout_seconds=1)


def test_what_a_cancelled_request_did_not_take_is_not_held_against_its_owner(
    base: BaseModel,
) -> None:
    engine = Engine(lambda: base, max_rows=2)
    ended: list[str] = []
    requests: list[Request] = []

    def submit(name: str, *, images: int, steps: int) -> Request:
        request = asking(num_images=images, num_inference_steps=steps)
        requests.append(engine.submit(request, owner=name))
        requests[-1].future.add_done_callback(lambda _: ended.append(name))
        return requests[-1]

    submit("busy", images=4, steps=4)
    cancelled = engine.submit(asking(num_images=16, num_inference_steps=100), owner="changed")

    def change_mind(done: int, _: int) -> None:
        if done == 1:
            cancelled.cancel()

    requests[0].on_step = change_mind
    cancelled.future.add_done_callback(lambda _: submit("changed", images=1, steps=4))
    engine.start()
    requests[0].result(timeout_seconds=60)
    requests[1].result(timeout_seconds=60)
    engine.stop()
    assert ended == ["changed", "busy"]

"""Device calls between the steps of images: one thread, sampling first, none forgotten."""

import threading
import time

import pytest

from perfusion_core.base_model import BaseModel
from tests.unit.worker.engine.conftest import asking
from tests.unit.worker.staging import wait_until
from worker.engine.engine import Engine
from worker.errors import Draining


def test_all_work_on_the_device_is_done_by_one_thread(engine: Engine) -> None:
    threads: set[str] = set()

    def note(*_: int) -> None:
        threads.add(threading.current_thread().name)

    request = engine.submit(asking(), on_step=note)
    engine.run_on_device(note)
    request.result(timeout_seconds=60)
    assert threads == {"engine"}


def test_a_generation_that_waits_goes_before_a_training_that_waited_longer(base: BaseModel) -> None:
    engine = Engine(lambda: base, patience_seconds=600)
    order: list[str] = []
    trainer = threading.Thread(
        target=engine.run_on_device, args=(lambda: order.append("training"),)
    )
    trainer.start()
    time.sleep(0.05)
    request = engine.submit(asking(num_inference_steps=2))
    request.future.add_done_callback(lambda _: order.append("generation"))
    engine.start()
    trainer.join(60)
    assert order == ["generation", "training"]
    engine.stop()


def test_a_queue_of_generations_that_never_empties_does_not_stop_a_training(
    base: BaseModel,
) -> None:
    engine = Engine(lambda: base, patience_seconds=0.05)
    engine.start()
    endless = engine.submit(asking(num_inference_steps=200))
    engine.run_on_device(lambda: None)
    assert not endless.ended
    endless.cancel()
    engine.stop()


def test_a_turn_that_fails_gives_the_device_back(engine: Engine) -> None:
    def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        engine.run_on_device(fail)
    assert engine.run_on_device(lambda: 1) == 1
    assert len(engine.submit(asking()).result(timeout_seconds=60)) == 1


def test_stopping_sends_a_waiting_training_home(engine: Engine) -> None:
    over, refused = threading.Event(), threading.Event()

    def train() -> None:
        try:
            engine.run_on_device(lambda: None)
        except Draining:
            refused.set()

    present = threading.Thread(target=engine.run_on_device, args=(over.wait,))
    waiting = threading.Thread(target=train)
    stopping = threading.Thread(target=engine.stop)
    for thread in (present, waiting, stopping):
        thread.start()
        time.sleep(0.05)
    over.set()
    for thread in (present, waiting, stopping):
        thread.join(60)
    assert refused.is_set()
    with pytest.raises(Draining):
        engine.run_on_device(lambda: None)


def test_an_urgent_turn_comes_before_the_next_step_and_before_a_training(base: BaseModel) -> None:
    engine = Engine(lambda: base, patience_seconds=600)
    order: list[str] = []

    def waiting(name: str, *, urgent: bool) -> threading.Thread:
        thread = threading.Thread(
            target=engine.run_on_device,
            args=(lambda: order.append(name),),
            kwargs={"urgent": urgent},
        )
        thread.start()
        time.sleep(0.05)
        return thread

    threads = [
        waiting("training", urgent=False),
        waiting("first", urgent=True),
        waiting("second", urgent=True),
    ]
    engine.submit(asking(num_inference_steps=2), on_step=lambda *_: order.append("step"))
    engine.start()
    for thread in threads:
        thread.join(60)
    engine.stop()
    assert order == ["first", "second", "step", "step", "training"]


class Clock:
    """Time that only the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_sampling_gets_a_few_times_as_long_as_the_turn_of_a_training_before_the_next(
    base: BaseModel,
) -> None:
    clock = Clock()
    engine = Engine(lambda: base, patience_seconds=2.0, clock=clock)
    order: list[str] = []

    def step(*_: int) -> None:
        # The training makes its next call at once, but in a thread of its own.
        wait_until(lambda: bool(engine._calls) or order.count("call") == 3)
        order.append("step")
        clock.now += 10

    def call() -> None:
        order.append("call")
        clock.now += 60

    def train() -> None:
        for _ in range(3):
            engine.run_on_device(call)

    trainer = threading.Thread(target=train)
    trainer.start()
    images = engine.submit(asking(num_inference_steps=80), on_step=step)
    engine.start()
    trainer.join(60)
    images.cancel()
    engine.stop()
    calls = [number for number, what in enumerate(order) if what == "call"]
    # The first waits for patience_seconds; 60 seconds of each are 4 times 60 of sampling: 24 steps.
    assert calls == [1, 26, 51]


def test_a_turn_whose_owner_is_to_stop_is_withdrawn_while_it_waits(base: BaseModel) -> None:
    engine = Engine(lambda: base)  # not started: nothing is ever done
    done: list[str] = []

    def stop(on_device: bool) -> None:
        assert not on_device
        raise Draining

    with pytest.raises(Draining):
        engine.run_on_device(lambda: done.append("call"), while_waiting=stop)
    engine.start()
    assert len(engine.submit(asking()).result(timeout_seconds=60)) == 1
    engine.stop()
    assert done == []


def test_a_turn_that_is_in_hand_is_waited_for_before_its_owner_stops(engine: Engine) -> None:
    seen: list[bool] = []
    over, left = threading.Event(), threading.Event()

    def stop(on_device: bool) -> None:
        seen.append(on_device)
        raise Draining

    def train() -> None:
        with pytest.raises(Draining):
            engine.run_on_device(over.wait, while_waiting=stop)
        left.set()

    trainer = threading.Thread(target=train)
    trainer.start()
    wait_until(lambda: bool(seen))
    left_early = left.wait(0.3)
    over.set()
    trainer.join(60)
    assert not left_early
    assert left.is_set() and seen == [True]

"""The engine: nobody pays for a neighbour (what images owe to theirs: test_company.py)."""

import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from perfusion_core.conditioning import ConceptUse
from perfusion_core.config import GenerateConfig
from perfusion_core.errors import ImageDiverged, PromptError
from perfusion_core.sampling import sampler
from perfusion_core.sampling.sampler import ImageRequest
from tests.unit.worker.staging import wait_until
from worker.engine.engine import Engine
from worker.engine.requests import Request
from worker.errors import Draining, OutOfMemory


@pytest.fixture
def engine(base: BaseModel) -> Iterator[Engine]:
    engine = Engine(lambda: base)
    engine.start()
    yield engine
    engine.stop()


def asking(prompt: str = "a photo of a dog", **options: Any) -> ImageRequest:
    config = GenerateConfig(**{"num_inference_steps": 3, "seed": 1, **options})
    return ImageRequest(prompt=prompt, config=config)


def grey_levels_apart(one: Image.Image, other: Image.Image) -> int:
    return int(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).max())


def alone(base: BaseModel, request: ImageRequest) -> list[Image.Image]:
    return sampler.generate(base, request.prompt, concepts=request.concepts, config=request.config)


def test_image_k_has_seed_plus_k_and_equals_the_image_of_that_seed(engine: Engine) -> None:
    three = engine.submit(asking(num_images=3, seed=2**32 - 2)).result(timeout_seconds=60)
    assert [sample.seed for sample in three] == [2**32 - 2, 2**32 - 1, 0]
    last = engine.submit(asking(seed=0)).result(timeout_seconds=60)
    assert grey_levels_apart(three[2].image, last[0].image) <= 1


def test_the_same_request_alone_gives_the_same_pixels(engine: Engine) -> None:
    first, second = (
        engine.submit(asking(num_images=2)).result(timeout_seconds=60) for _ in range(2)
    )
    for one, other in zip(first, second, strict=True):
        assert one.image.tobytes() == other.image.tobytes()


def test_an_exploding_request_hurts_nobody(
    engine: Engine, base: BaseModel, concept: Concept
) -> None:
    huge = replace(concept, o_v=np.full_like(concept.o_v, 1e38))
    exploding = replace(asking("a photo of a <rex>"), concepts={"rex": ConceptUse(huge, beta=-5.0)})
    good = asking(seed=9)
    requests = [engine.submit(one) for one in (good, exploding, good)]
    with pytest.raises(ImageDiverged, match="diverged"):
        requests[1].result(timeout_seconds=60)
    for request in (requests[0], requests[2]):
        image = request.result(timeout_seconds=60)[0].image
        assert grey_levels_apart(image, alone(base, good)[0]) <= 1


def test_a_request_that_cannot_begin_fails_alone(engine: Engine) -> None:
    bad = engine.submit(asking("a photo of <nobody>"))
    good = engine.submit(asking())
    with pytest.raises(PromptError):
        bad.result(timeout_seconds=60)
    assert len(good.result(timeout_seconds=60)) == 1


def test_a_request_that_fails_in_the_middle_of_a_step_fails_alone(base: BaseModel) -> None:
    engine = Engine(lambda: base)
    requests = [engine.submit(asking(seed=seed, num_inference_steps=4)) for seed in range(3)]

    def spoil(done: int, _: int) -> None:
        if done == 2:
            # The first has taken its step by the time that this fails, the third has not.
            requests[1].slots[0].trajectory.guidance_scale = None  # type: ignore[assignment]

    requests[1].on_step = spoil
    engine.start()
    with pytest.raises(TypeError):
        requests[1].result(timeout_seconds=60)
    _assert_unhurt(base, requests)
    engine.stop()


def _assert_unhurt(base: BaseModel, requests: Sequence[Request]) -> None:
    for seed in (0, 2):
        image = requests[seed].result(timeout_seconds=60)[0].image
        expected = alone(base, asking(seed=seed, num_inference_steps=4))[0]
        assert grey_levels_apart(image, expected) <= 1


def test_a_request_that_no_batch_can_take_fails_alone(base: BaseModel) -> None:
    engine = Engine(lambda: base)
    requests = [engine.submit(asking(seed=seed, num_inference_steps=4)) for seed in range(2)]

    def spoil(done: int, _: int) -> None:
        if done == 2:
            bad = requests[1].slots[0].trajectory
            bad.packed = bad.packed[..., :-1]
            requests.append(engine.submit(asking(seed=2, num_inference_steps=4)))

    requests[1].on_step = spoil
    engine.start()
    with pytest.raises(RuntimeError):
        requests[1].result(timeout_seconds=60)
    _assert_unhurt(base, requests)
    engine.stop()


def test_whoever_watches_and_fails_hurts_no_neighbour(base: BaseModel) -> None:
    engine = Engine(lambda: base)

    def fail(*_: int) -> None:
        raise ZeroDivisionError

    bad, good = engine.submit(asking(), on_step=fail), engine.submit(asking(seed=2))
    engine.start()
    with pytest.raises(ZeroDivisionError):
        bad.result(timeout_seconds=60)
    assert len(good.result(timeout_seconds=60)) == 1
    engine.stop()


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

    class Counted(sampler.Batch):
        def __init__(self, trajectories: Sequence[sampler.Trajectory], *, rows: int = 0) -> None:
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


def test_a_batch_that_does_not_fit_into_memory_is_halved(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = _limit_memory(monkeypatch, rows=4)
    engine = Engine(lambda: base, max_rows=16)
    image_request = asking(num_images=5, num_inference_steps=2)
    request = engine.submit(image_request)
    engine.start()
    samples = request.result(timeout_seconds=60)
    monkeypatch.undo()
    for sample, expected in zip(samples, alone(base, image_request), strict=True):
        assert grey_levels_apart(sample.image, expected) <= 1
    assert sizes[0] == 10
    assert max(sizes[2:]) <= 4
    engine.stop()


def test_an_exact_batch_that_does_not_fit_into_memory_is_halved_with_its_padding(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = _limit_memory(monkeypatch, rows=4)
    engine = Engine(lambda: base, exact=True)
    request = engine.submit(asking(num_inference_steps=2))
    engine.start()
    assert len(request.result(timeout_seconds=60)) == 1
    engine.stop()
    assert sizes == [8, 4, 4]


def test_a_picture_that_does_not_fit_into_memory_alone_is_refused_in_words(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    _limit_memory(monkeypatch, rows=1)
    engine = Engine(lambda: base)
    request = engine.submit(asking())
    engine.start()
    with pytest.raises(OutOfMemory, match="smaller width and height"):
        request.result(timeout_seconds=60)
    monkeypatch.undo()
    assert len(engine.submit(asking()).result(timeout_seconds=60)) == 1
    engine.stop()


def test_stopping_gives_unfinished_requests_back(base: BaseModel) -> None:
    engine = Engine(lambda: base)
    requests: list[Request] = [engine.submit(asking(num_inference_steps=200)) for _ in range(2)]
    engine.start()
    time.sleep(0.1)
    engine.stop()
    for request in [*requests, engine.submit(asking())]:
        with pytest.raises(Draining):
            request.result(timeout_seconds=1)


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


def _limit_memory(monkeypatch: pytest.MonkeyPatch, *, rows: int) -> list[int]:
    """Let the real step run, but only for batches of so many rows; return the sizes tried."""
    sizes: list[int] = []
    real = sampler.step

    def step(base: BaseModel, batch: sampler.Batch) -> None:
        sizes.append(len(batch.packed))
        if sizes[-1] > rows:
            raise torch.OutOfMemoryError("out of memory")
        real(base, batch)

    monkeypatch.setattr(sampler, "step", step)
    return sizes


@pytest.mark.parametrize("where", ["step", "decode_together"])
def test_what_failed_for_lack_of_memory_holds_none_when_it_is_tried_again(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    real, taken = getattr(sampler, where), []

    class Activations:
        """A device's memory, which a frame holds."""

    def short_of_memory(*args: Any) -> Any:
        if taken:
            assert taken[0]() is None
            return real(*args)
        activations = Activations()
        taken.append(weakref.ref(activations))
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(sampler, where, short_of_memory)
    engine = Engine(lambda: base)
    request = engine.submit(asking(num_images=2))
    engine.start()
    assert len(request.result(timeout_seconds=60)) == 2
    engine.stop()


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
        # The training asks for its next turn at once, but in a thread of its own.
        wait_until(lambda: bool(engine._calls) or order.count("turn") == 3)
        order.append("step")
        clock.now += 10

    def call() -> None:
        order.append("turn")
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
    calls = [number for number, what in enumerate(order) if what == "turn"]
    # The first waits for patience_seconds; 60 seconds of each are 4 times 60 of sampling: 24 steps.
    assert calls == [1, 26, 51]


def test_a_turn_whose_owner_is_to_stop_is_withdrawn_while_it_waits(base: BaseModel) -> None:
    engine = Engine(lambda: base)  # not started: nothing is ever done
    done: list[str] = []

    def stop(on_device: bool) -> None:
        assert not on_device
        raise Draining

    with pytest.raises(Draining):
        engine.run_on_device(lambda: done.append("turn"), while_waiting=stop)
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


def test_only_what_the_device_works_at_is_in_hand(base: BaseModel) -> None:
    engine = Engine(lambda: base, max_rows=2)
    first = engine.submit(asking(num_inference_steps=2), owner="a")
    second = engine.submit(asking(num_inference_steps=2), owner="b")
    seen: set[tuple[bool, bool]] = set()
    real = sampler.step

    def step(base: BaseModel, batch: sampler.Batch) -> None:
        seen.add((first.on_device, second.on_device))
        real(base, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampler, "step", step)
        engine.start()
        for request in (first, second):
            request.result(timeout_seconds=60)
    engine.stop()
    assert seen == {(True, False), (False, True)}
    assert not first.on_device and not second.on_device


def test_a_device_that_breaks_is_held_against_its_batch_and_sends_everybody_else_home(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = threading.Event()
    engine = Engine(lambda: base, max_rows=4, broken=broken)

    def step(base: BaseModel, batch: sampler.Batch) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(sampler, "step", step)
    requests = [engine.submit(asking(seed=seed), owner=str(seed)) for seed in range(4)]
    engine.start()
    for request in requests[:2]:
        with pytest.raises(RuntimeError, match="illegal memory access"):
            request.result(timeout_seconds=60)
    for request in [*requests[2:], engine.submit(asking())]:
        with pytest.raises(Draining):
            request.result(timeout_seconds=60)
    assert broken.is_set()


def test_a_device_that_breaks_is_not_asked_again_for_those_who_only_waited(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken device refuses everything: the next job must not spend an attempt as well."""
    broken = threading.Event()
    engine = Engine(lambda: base, broken=broken)
    real = sampler.start

    def start(base: BaseModel, request: ImageRequest) -> list[sampler.Trajectory]:
        if broken.is_set() or "fatal" in request.prompt:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return real(base, request)

    def step(base: BaseModel, batch: sampler.Batch) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(sampler, "start", start)
    monkeypatch.setattr(sampler, "step", step)
    older, fatal, younger = (
        engine.submit(asking(f"a photo of a {thing}"), owner=thing)
        for thing in ("dog", "fatal thing", "cat")
    )
    engine.start()
    with pytest.raises(RuntimeError, match="illegal memory access"):
        fatal.result(timeout_seconds=60)
    for request in (older, younger):
        with pytest.raises(Draining):
            request.result(timeout_seconds=60)

"""A request that fails does so alone, and a broken device costs only what it works at."""

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from perfusion_core.conditioning import ConceptUse
from perfusion_core.errors import ImageDiverged, PromptError
from perfusion_core.sampling import sampler
from perfusion_core.sampling.sampler import ImageRequest
from perfusion_core.sampling.trajectories import Batch, Trajectory
from tests.unit.worker.engine.conftest import alone, asking, grey_levels_apart
from worker.engine.engine import Engine
from worker.engine.requests import Request
from worker.errors import Draining


def test_an_exploding_request_hurts_nobody(
    engine: Engine, base: BaseModel, concept: Concept
) -> None:
    huge = replace(concept, o_v=np.full_like(concept.o_v, 1e38))
    exploding = replace(asking("a photo of a <rex>"), concepts={"rex": ConceptUse(huge, beta=-5.0)})
    good = asking(seed=9)
    requests = [engine.submit(asked) for asked in (good, exploding, good)]
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


def test_only_what_the_device_works_at_is_in_hand(base: BaseModel) -> None:
    engine = Engine(lambda: base, max_rows=2)
    first = engine.submit(asking(num_inference_steps=2), owner="a")
    second = engine.submit(asking(num_inference_steps=2), owner="b")
    seen: set[tuple[bool, bool]] = set()
    real = sampler.step

    def step(base: BaseModel, batch: Batch) -> None:
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

    def step(base: BaseModel, batch: Batch) -> None:
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

    def start(base: BaseModel, request: ImageRequest) -> list[Trajectory]:
        if broken.is_set() or "fatal" in request.prompt:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return real(base, request)

    def step(base: BaseModel, batch: Batch) -> None:
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

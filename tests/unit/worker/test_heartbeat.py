"""What counts as a hang, and what merely waits for the device."""

import time
from collections.abc import Callable
from threading import Event

import pytest

from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from perfusion_core.conditioning import ConceptUse
from perfusion_core.config import GenerateConfig
from perfusion_core.errors import Interrupted
from perfusion_core.sampling import sampler
from perfusion_core.sampling.sampler import ImageRequest
from perfusion_core.sampling.trajectories import Batch
from service.database.tables import JobRow
from service.execution import reconciler
from service.statuses import JobStatus, Queue
from service.wiring import Service
from tests.unit.worker.staging import (
    accept_generation,
    accept_training,
    claim,
    in_thread,
    look_at,
    wait_until,
)
from worker import heartbeat as heartbeat_module
from worker.context import WorkerContext
from worker.heartbeat import Heartbeat
from worker.runner import Runner


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat_module, "HANG_SECONDS", 0.6)


class Waiting:
    """Stands for the waits between heartbeats: in each some time passes, and something happens."""

    def __init__(self, *, times: int, seconds: float) -> None:
        self.now = 0.0
        self.meanwhile: Callable[[], None] = lambda: None
        self._left, self._seconds = times, seconds

    def monotonic(self) -> float:
        return self.now

    def wait(self, _: float) -> bool:
        if self._left == 0:
            return True
        self._left -= 1
        self.now += self._seconds
        self.meanwhile()
        return False


def end_of(
    service: Service, monkeypatch: pytest.MonkeyPatch, *, moves: bool, on_device: bool
) -> str | None:
    """What stops a job that waits for three times as long as a hang; None: nothing does."""
    waiting = Waiting(times=9, seconds=0.2)
    monkeypatch.setattr(heartbeat_module, "time", waiting)
    claimed, broken = claim(service, accept_generation(service)), Event()
    heartbeat = Heartbeat(service, claimed, leave=Event(), broken=broken)
    monkeypatch.setattr(heartbeat, "_stopped", waiting)
    waiting.meanwhile = lambda: heartbeat.keep_alive(
        waiting.now if moves else 0.0, on_device=on_device
    )
    heartbeat._beat()
    try:
        heartbeat.check()
    except Interrupted as error:
        assert broken.is_set()
        return type(error).__name__
    assert not broken.is_set()
    return None


def test_a_job_waits_as_long_as_its_line_moves(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert end_of(service, monkeypatch, moves=True, on_device=False) is None


def test_where_the_device_hangs_its_job_is_lost_and_a_job_in_line_goes_back(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert end_of(service, monkeypatch, moves=False, on_device=True) == "LeaseLost"
    assert end_of(service, monkeypatch, moves=False, on_device=False) == "Draining"


def test_a_job_that_hangs_after_it_stood_in_line_is_lost(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat_module, "_WAITING_SECONDS", 0.1)
    claimed, broken = claim(service, accept_generation(service)), Event()
    with Heartbeat(service, claimed, leave=Event(), broken=broken) as heartbeat:
        heartbeat.keep_alive(time.monotonic(), on_device=False)
        assert broken.wait(60)
        wait_until(lambda: heartbeat._lost)


def test_a_hang_spends_an_attempt_of_the_job_that_hangs_and_of_no_neighbour(
    service: Service, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, stuck = Event(), Event()
    real = sampler.step

    def hang(base: BaseModel, batch: Batch) -> None:
        if batch.trajectories[0].latent_shape[-1] == 32 // base.vae_factor:
            stuck.set()
            over.wait(60)
        real(base, batch)

    monkeypatch.setattr(sampler, "step", hang)
    culprit = accept_generation(service, width=32)
    runner = Runner(context)
    threads = [in_thread(runner.run, Queue.GENERATE)]
    assert stuck.wait(60)
    generation, training = accept_generation(service), accept_training(service)
    threads += [in_thread(runner.run, queue) for queue in Queue]
    wait_until(lambda: context.broken.is_set())
    wait_until(
        lambda: all(
            look_at(service, job_id).status is JobStatus.QUEUED for job_id in (generation, training)
        )
    )
    over.set()
    for thread in threads:
        thread.join(60)
    # What the reconciler does once the lease has run out.
    reconciler.orphans_at_start(service)
    spent = {job_id: spent_attempts(service, job_id) for job_id in (culprit, generation, training)}
    assert spent == {culprit: 1, generation: 0, training: 0}


def test_a_job_whose_worker_was_lost_samples_alone(
    service: Service, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[set[int]] = []
    real = sampler.step

    def step(base: BaseModel, batch: Batch) -> None:
        batches.append({trajectory.seed for trajectory in batch.trajectories})
        real(base, batch)

    monkeypatch.setattr(sampler, "step", step)
    suspect = accept_generation(service, num_inference_steps=6, seed=77)
    claim(service, suspect)
    reconciler.orphans_at_start(service)
    neighbour = accept_generation(service, num_inference_steps=6, seed=5)
    began, released = Event(), Event()

    def hold(done: int, total: int) -> None:
        began.set()
        released.wait(60)

    busy = context.engine.submit(asking_for(steps=20), owner="another", on_step=hold)
    assert began.wait(60)
    threads = [in_thread(Runner(context).run, Queue.GENERATE) for _ in range(2)]
    wait_until(lambda: len(context.engine._arrivals) == 2)
    released.set()
    for thread in threads:
        thread.join(60)
    busy.cancel()
    for job_id in (suspect, neighbour):
        assert look_at(service, job_id).status is JobStatus.SUCCEEDED
    assert [seeds for seeds in batches if 77 in seeds] == [{77}] * 6
    assert {1, 5} in batches


def spent_attempts(service: Service, job_id: str) -> int:
    with service.database.read() as session:
        job = session.get(JobRow, job_id)
        assert job is not None
        return job.attempts_spent


def asking_for(*, steps: int) -> ImageRequest:
    return ImageRequest(
        prompt="a dog", config=GenerateConfig(num_inference_steps=steps, seed=1, guidance_scale=4.0)
    )


class Stopped:
    """Stands for a process that is stopped in its first wait, and hangs in those after it."""

    def __init__(self, *seconds: float) -> None:
        self.now = 0.0
        self._waits = list(seconds)

    def monotonic(self) -> float:
        return self.now

    def wait(self, _: float) -> bool:
        if not self._waits:
            return True
        self.now += self._waits.pop(0)
        return False


@pytest.mark.parametrize(("waits", "hangs"), [([1000.0], False), ([1000.0, 0.4, 0.4], True)])
def test_a_process_that_was_stopped_for_long_does_not_take_its_job_for_a_hang(
    service: Service, monkeypatch: pytest.MonkeyPatch, waits: list[float], hangs: bool
) -> None:
    stopped = Stopped(*waits)
    monkeypatch.setattr(heartbeat_module, "time", stopped)
    claimed, broken = claim(service, accept_generation(service)), Event()
    heartbeat = Heartbeat(service, claimed, leave=Event(), broken=broken)
    monkeypatch.setattr(heartbeat, "_stopped", stopped)
    heartbeat._beat()
    assert broken.is_set() == hangs


def test_a_generation_behind_others_is_done_however_long_they_take(
    service: Service, context: WorkerContext
) -> None:
    context.engine._packing._max_rows = 2
    config = GenerateConfig(num_inference_steps=80, seed=1)
    request = ImageRequest(prompt="a dog", config=config)
    before = context.engine.submit(request, owner="another", on_step=lambda *_: time.sleep(0.02))
    began = time.monotonic()
    job_id = accept_generation(service)
    Runner(context).run(Queue.GENERATE)
    assert before.ended and time.monotonic() - began > 2 * heartbeat_module.HANG_SECONDS
    assert look_at(service, job_id).status is JobStatus.SUCCEEDED
    assert not context.broken.is_set()


def test_the_line_stands_still_while_a_step_hangs(context: WorkerContext, concept: Concept) -> None:
    config = GenerateConfig(num_inference_steps=3, seed=1)
    request = ImageRequest(
        prompt="a <rex>", concepts={"rex": ConceptUse(concept, beta=0.7)}, config=config
    )
    sampled = context.engine.submit(request, on_step=lambda done, _: time.sleep(0.5 * (done == 2)))
    seen = set()
    while not sampled.ended:
        seen.add(context.engine.moved_at)
        time.sleep(0.01)
    seen.add(context.engine.moved_at)  # the last step may have ended within the last sleep
    longest = max(b - a for a, b in zip(sorted(seen), sorted(seen)[1:], strict=False))
    assert longest >= 0.5

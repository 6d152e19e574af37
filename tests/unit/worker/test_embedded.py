"""The embedded worker: messages in, jobs done; a training never stands in a generation's way."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from perfusion_core.base_model import BaseModel
from service import workers
from service.blobs import keys
from service.queue import TASK_NAME
from service.statuses import JobStatus
from service.wiring import Service
from tests.unit.worker.staging import (
    accept_generation,
    accept_training,
    events,
    look_at,
    wait_until,
)
from worker import embedded
from worker.embedded import Embedded


@contextmanager
def running(service: Service, base: BaseModel) -> Iterator[Embedded]:
    worker = embedded.start(service, base=base)
    try:
        yield worker
    finally:
        worker.stop(drain_seconds=0.5)


def status(service: Service, job_id: str) -> JobStatus:
    return look_at(service, job_id).status


def test_a_generation_is_done_while_a_training_runs_and_the_next_training_waits(
    service: Service, base: BaseModel
) -> None:
    with running(service, base):
        first = accept_training(service, name="a", max_train_steps=5000)
        wait_until(lambda: look_at(service, first).progress.step > 0)
        second = accept_training(service, name="b", max_train_steps=5000)
        generations = [accept_generation(service, seed=seed) for seed in range(10)]
        wait_until(lambda: all(look_at(service, job_id).finished for job_id in generations))
        assert status(service, first) is JobStatus.RUNNING
        assert status(service, second) is JobStatus.QUEUED
    for job_id in generations:
        assert [status for status, _ in events(service, job_id)] == [
            "queued",
            "running",
            "succeeded",
        ]


def test_stopping_sends_the_training_back_with_its_state_and_starting_again_goes_on(
    service: Service, base: BaseModel
) -> None:
    with running(service, base):
        job_id = accept_training(service, max_train_steps=120)
        wait_until(lambda: look_at(service, job_id).progress.step > 0)
    assert status(service, job_id) is JobStatus.QUEUED
    assert service.blobs.get(keys.state_key(job_id, 1))
    stopped_at = look_at(service, job_id).progress.step
    with running(service, base):
        wait_until(lambda: status(service, job_id) is JobStatus.RUNNING)
        wait_until(lambda: look_at(service, job_id).progress.step >= stopped_at)
        wait_until(lambda: look_at(service, job_id).finished, timeout_seconds=120)
    assert status(service, job_id) is JobStatus.SUCCEEDED


def test_stopping_takes_the_worker_off_the_list_and_leaves_no_thread(
    service: Service, base: BaseModel
) -> None:
    before = set(threading.enumerate())
    with running(service, base) as worker:
        wait_until(
            lambda: [live.id for live in workers.live(service)] == [worker.context.worker_id]
        )
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert workers.live(service) == []
    ours = {thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()}
    assert not {name for name in ours if name.startswith(("consume", "engine", "reconcil"))}


def test_a_step_that_hangs_does_not_keep_a_worker_from_stopping(
    service: Service, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process can then be ended, which is all that helps (worker/main.py)."""
    monkeypatch.setattr(embedded, "_LAST_STEP_SECONDS", 0.2)
    worker = embedded.start(service, base=base)
    held, over = threading.Event(), threading.Event()

    def hang() -> None:
        held.set()
        over.wait()

    hanging = threading.Thread(target=worker.context.engine.run_on_device, args=(hang,))
    hanging.start()
    assert held.wait(60)
    try:
        assert not worker.stop(drain_seconds=0.1)
    finally:
        over.set()
        hanging.join(5)
    assert worker.context.engine.stop(timeout_seconds=5)


def test_a_message_that_was_lost_is_made_up_for(
    make_service: Callable[..., Service], base: BaseModel
) -> None:
    service = make_service()
    # No worker gets the first message: with memory:// messages do not outlive the process either.
    job_id = accept_generation(service)
    _drain_queues()
    with running(service, base):
        wait_until(lambda: look_at(service, job_id).finished)
    assert [status for status, _ in events(service, job_id)] == ["queued", "running", "succeeded"]


def test_the_task_carries_a_job_id_and_nothing_else(service: Service) -> None:
    from worker import celery_app

    seen: list[str] = []
    app = celery_app.create(service.settings, run_job=seen.append)
    app.tasks[TASK_NAME].apply(args=["job_7"])
    assert seen == ["job_7"]
    assert app.conf.task_acks_late is False
    assert app.conf.result_backend is None


def _drain_queues() -> None:
    from kombu.transport.memory import Channel

    for queue in Channel.queues.values():
        while not queue.empty():
            queue.get_nowait()

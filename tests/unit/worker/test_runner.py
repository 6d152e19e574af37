"""The laws of a job's life, on real SQLite and local blobs: it ends exactly once, in every case."""

import time
from collections.abc import Callable
from threading import Event

import pytest
from structlog.testing import capture_logs

from perfusion_core.base_model import BaseModel
from service.blobs import keys
from service.execution.leases import ClaimedJob
from service.jobs import use_cases as jobs
from service.statuses import JobStatus, Queue
from service.wiring import Service
from tests.unit.worker.staging import (
    OWNER,
    accept_generation,
    accept_training,
    blob_keys,
    events,
    failing,
    in_thread,
    look_at,
    runner_of,
    wait_until,
    works_until,
)
from worker.context import WorkerContext
from worker.runner import Runner


def test_a_job_ends_exactly_once_and_a_double_message_is_ignored(
    service: Service, context: WorkerContext
) -> None:
    job_id = accept_generation(service)
    runner = Runner(context)
    threads = [in_thread(runner.run, Queue.GENERATE) for _ in range(4)]
    for thread in threads:
        thread.join(60)
    runner.run(Queue.GENERATE)
    assert look_at(service, job_id).status is JobStatus.SUCCEEDED
    assert events(service, job_id) == [("queued", 0), ("running", 1), ("succeeded", 1)]
    assert len(look_at(service, job_id).images) == 1


def test_a_message_without_a_job_is_ignored(context: WorkerContext) -> None:
    for queue in Queue:
        Runner(context).run(queue)


def test_a_job_cancelled_before_it_starts_is_never_claimed(
    service: Service, context: WorkerContext
) -> None:
    job_id = accept_training(service)
    jobs.cancel(service, OWNER, job_id=job_id)
    Runner(context).run(Queue.TRAIN)
    assert events(service, job_id) == [("queued", 0), ("cancelled", 0)]


@pytest.mark.parametrize("queue", Queue)
def test_a_running_job_is_cancelled_within_a_step(
    service: Service, context: WorkerContext, queue: Queue
) -> None:
    if queue is Queue.TRAIN:
        job_id = accept_training(service, max_train_steps=5000)
    else:
        job_id = accept_generation(service, num_inference_steps=200, num_images=8)
    thread = in_thread(Runner(context).run, queue)
    wait_until(lambda: look_at(service, job_id).progress.step > 0)
    jobs.cancel(service, OWNER, job_id=job_id)
    asked_at = time.monotonic()
    thread.join(60)
    assert time.monotonic() - asked_at < 5  # under one second on an idle machine
    assert look_at(service, job_id).status is JobStatus.CANCELLED
    assert blob_keys(service, keys.job_prefix(job_id)) == []


def test_a_result_that_comes_with_a_cancellation_is_not_kept(
    service: Service, context: WorkerContext
) -> None:
    job_id = accept_generation(service)

    def result(claimed: ClaimedJob) -> bool:
        jobs.cancel(service, OWNER, job_id=job_id)
        return False  # what finish_generation answers then

    released = Event()
    released.set()
    runner_of(context, works_until(released, result=result)).run(Queue.GENERATE)
    assert look_at(service, job_id).status is JobStatus.CANCELLED


def test_a_broken_device_ends_the_claims_of_this_process(
    service: Service, context: WorkerContext
) -> None:
    first, second = accept_generation(service), accept_generation(service)
    broken = RuntimeError("CUDA error: an illegal memory access was encountered")
    runner_of(context, failing(broken)).run(Queue.GENERATE)
    Runner(context).run(Queue.GENERATE)
    assert context.broken.is_set()
    assert look_at(service, first).status is JobStatus.QUEUED
    assert events(service, second) == [("queued", 0)]


def test_a_draining_worker_claims_nothing(service: Service, context: WorkerContext) -> None:
    job_id = accept_generation(service)
    context.draining.set()
    Runner(context).run(Queue.GENERATE)
    assert events(service, job_id) == [("queued", 0)]


def test_a_base_model_that_cannot_be_loaded_leaves_jobs_in_the_queue(
    make_service: Callable[..., Service], base: BaseModel
) -> None:
    from worker import context as composition

    service = make_service(base_model="no/such-folder")
    context = composition.build(service)
    job_id = accept_generation(service)
    with capture_logs() as lines:
        context.model_loader.start()
        Runner(context).run(Queue.GENERATE)
        context.model_loader.stop()
    assert look_at(service, job_id).status is JobStatus.QUEUED
    assert "no/such-folder" in context.model_loader.state.detail
    assert [line["event"] for line in lines] == ["worker.loading", "base_model.not_loaded"]

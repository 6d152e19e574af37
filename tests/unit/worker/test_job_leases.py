"""A job's lease: kept while it works, given back after a fault, gone after its attempts."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import select, update

from service.blobs import keys
from service.database.tables import JobRow
from service.errors import Unavailable
from service.execution import reconciler
from service.garbage import collection
from service.jobs import payloads
from service.jobs import use_cases as jobs
from service.statuses import JobKind, JobStatus, Queue
from service.wiring import Service
from tests.unit.worker.staging import (
    OWNER,
    accept_generation,
    accept_training,
    blob_keys,
    claim,
    events,
    failing,
    in_thread,
    look_at,
    runner_of,
    wait_until,
    works_until,
)
from worker import runner as runner_module
from worker.context import WorkerContext
from worker.runner import Runner


def test_a_lost_lease_changes_nothing_and_the_job_ends_elsewhere(
    service: Service, make_context: Callable[[], WorkerContext]
) -> None:
    job_id = accept_generation(service)
    released = Event()
    context = make_context()
    zombie = runner_of(context, works_until(released, result=lambda _: True))
    thread = in_thread(zombie.run, Queue.GENERATE)
    wait_until(lambda: bool(blob_keys(service, keys.job_prefix(job_id))))
    context.draining.set()  # or it would take the job again itself
    # What the reconciler does once a lease has run out.
    assert reconciler.orphans_at_start(service) == 1
    thread.join(30)
    assert look_at(service, job_id).status is JobStatus.QUEUED
    Runner(make_context()).run(Queue.GENERATE)
    assert [status for status, _ in events(service, job_id)] == [
        "queued",
        "running",
        "queued",
        "running",
        "succeeded",
    ]
    assert len(look_at(service, job_id).images) == 1
    # What the first attempt wrote is named by no row: the collector's to remove.
    collection.collect(service, grace=timedelta())
    assert blob_keys(service, keys.job_prefix(job_id)) == [
        f"jobs/{job_id}/2/0.png", f"jobs/{job_id}/2/0.webp",
    ]  # fmt: skip


def test_a_job_keeps_its_lease_for_as_long_as_it_works(
    service: Service, context: WorkerContext
) -> None:
    now, lease = datetime.now(UTC), timedelta(seconds=service.settings.lease_seconds)
    service.database._clock = lambda: now
    job_id = accept_generation(service)
    released = Event()
    thread = in_thread(
        runner_of(context, works_until(released, result=lambda _: True)).run, Queue.GENERATE
    )

    def renewed() -> bool:
        return lease_until(service, job_id) == now + lease

    for _ in range(3):
        wait_until(renewed, timeout_seconds=20)
        now += lease / 2
        assert reconciler.reconcile(service).requeued == 0
    assert look_at(service, job_id).status is JobStatus.RUNNING
    assert look_at(service, job_id).progress.total_steps == 1000
    jobs.cancel(service, OWNER, job_id=job_id)
    thread.join(30)


def lease_until(service: Service, job_id: str) -> datetime | None:
    with service.database.read() as session:
        return session.get_one(JobRow, job_id).lease_until


@pytest.mark.parametrize(
    ("kind", "field"),
    [("train", "training"), ("generate", "config"), ("train", None), ("generate", None)],
)
def test_a_job_whose_options_only_a_newer_release_knows_rests_until_one_takes_it(
    service: Service, context: WorkerContext, kind: JobKind, field: str | None
) -> None:
    job_id = accept_training(service) if kind == "train" else accept_generation(service)
    with service.database.write() as session:
        job = session.get_one(JobRow, job_id)
        if field is None:
            job.payload = {**job.payload, "version": payloads.NEWEST_VERSION + 1}
        else:
            job.payload = {**job.payload, field: {**job.payload[field], "of_tomorrow": 1}}
    Runner(context).run(Queue(kind))
    with service.database.read() as session:
        job = session.get_one(JobRow, job_id)
    assert (job.status, job.attempts_spent) == (JobStatus.QUEUED, 0)
    assert job.not_before is not None


def test_a_job_that_takes_its_worker_down_fails_after_its_attempts(service: Service) -> None:
    job_id = accept_generation(service)
    for _ in range(service.settings.max_attempts):
        assert look_at(service, job_id).status is JobStatus.QUEUED
        claim(service, job_id)
        reconciler.orphans_at_start(service)
    job = look_at(service, job_id)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.type == "/problems/worker-lost"
    assert job.attempt == 3


def test_a_store_that_is_away_sends_the_job_back_without_spending_an_attempt(
    service: Service, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "_FAULT_DELAY_SECONDS", 0.05)
    job_id = accept_generation(service)
    folder = Path(service.settings.data_dir) / "blobs"
    shutil.rmtree(folder, ignore_errors=True)
    folder.write_text("in the way")

    def attempts() -> int:
        Runner(context).run(Queue.GENERATE)  # nothing, until the job has rested
        return look_at(service, job_id).attempt

    wait_until(lambda: attempts() > service.settings.max_attempts)
    assert look_at(service, job_id).status is JobStatus.QUEUED
    folder.unlink()
    wait_until(lambda: attempts() > 0 and look_at(service, job_id).finished)
    assert look_at(service, job_id).status is JobStatus.SUCCEEDED


def test_a_job_that_was_taken_thousands_of_times_rests_as_long_as_any_other(
    service: Service, context: WorkerContext
) -> None:
    job_id = accept_generation(service)
    with service.database.write() as session:
        now = service.database.now(session)
        session.execute(update(JobRow).values(attempt=2000, faulted_at=now))
    away = Unavailable("blobs-unavailable", "The store is away.")
    runner_of(context, failing(away)).run(Queue.GENERATE)
    assert look_at(service, job_id).status is JobStatus.QUEUED
    with service.database.read() as session:
        [job] = session.scalars(select(JobRow))
        assert job.not_before is not None
        assert timedelta() < job.not_before - now <= timedelta(minutes=6)

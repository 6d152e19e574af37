"""The laws of a job's life, on real SQLite and local blobs: it ends exactly once, in every case."""

import shutil
import time
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import select, update
from structlog.testing import capture_logs

from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from perfusion_core.errors import TrainingDiverged
from service.blobs import keys
from service.concepts import use_cases as concepts
from service.database.tables import JobRow
from service.errors import Unavailable
from service.execution import reconciler
from service.execution.leases import ClaimedJob
from service.garbage import collection
from service.jobs import use_cases as jobs
from service.statuses import JobKind, JobStatus
from service.wiring import Service
from tests.unit.worker.staging import (
    OWNER,
    accept_generation,
    accept_training,
    add_concept,
    blob_keys,
    claim,
    events,
    in_thread,
    look_at,
    wait_until,
)
from worker import runner as runner_module
from worker.context import WorkerContext
from worker.heartbeat import Heartbeat
from worker.runner import Runner, Work


def works_until(released: Event, *, result: Callable[[ClaimedJob], bool]) -> Work:
    """Work that takes steps until the test lets it end."""

    def work(context: WorkerContext, claimed: ClaimedJob, heartbeat: Heartbeat) -> bool:
        context.service.blobs.put(f"{keys.attempt_prefix(claimed.id, claimed.attempt)}0.png", b"x")
        step = 0
        while not released.is_set():
            step += 1
            heartbeat.report(step, 1000)
            heartbeat.check()
            time.sleep(0.01)
        return result(claimed)

    return work


def runner_of(context: WorkerContext, work: Work) -> Runner:
    return Runner(context, work={JobKind.TRAIN: work, JobKind.GENERATE: work})


def failing(error: Exception) -> Work:
    def work(context: WorkerContext, claimed: ClaimedJob, heartbeat: Heartbeat) -> bool:
        raise error

    return work


def test_a_job_ends_exactly_once_and_a_double_message_is_ignored(
    service: Service, context: WorkerContext
) -> None:
    job_id = accept_generation(service)
    runner = Runner(context)
    threads = [in_thread(runner.run, JobKind.GENERATE) for _ in range(4)]
    for thread in threads:
        thread.join(60)
    runner.run(JobKind.GENERATE)
    assert look_at(service, job_id).status is JobStatus.SUCCEEDED
    assert events(service, job_id) == [("queued", 0), ("running", 1), ("succeeded", 1)]
    assert len(look_at(service, job_id).images) == 1


def test_a_message_without_a_job_is_ignored(context: WorkerContext) -> None:
    for kind in JobKind:
        Runner(context).run(kind)


def test_a_job_cancelled_before_it_starts_is_never_claimed(
    service: Service, context: WorkerContext
) -> None:
    job_id = accept_training(service)
    jobs.cancel(service, OWNER, job_id=job_id)
    Runner(context).run(JobKind.TRAIN)
    assert events(service, job_id) == [("queued", 0), ("cancelled", 0)]


@pytest.mark.parametrize("kind", JobKind)
def test_a_running_job_is_cancelled_within_a_step(
    service: Service, context: WorkerContext, kind: JobKind
) -> None:
    if kind is JobKind.TRAIN:
        job_id = accept_training(service, max_train_steps=5000)
    else:
        job_id = accept_generation(service, num_inference_steps=200, num_images=8)
    thread = in_thread(Runner(context).run, kind)
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
    runner_of(context, works_until(released, result=result)).run(JobKind.GENERATE)
    assert look_at(service, job_id).status is JobStatus.CANCELLED


def test_a_lost_lease_changes_nothing_and_the_job_ends_elsewhere(
    service: Service, make_parts: Callable[[], WorkerContext]
) -> None:
    job_id = accept_generation(service)
    released = Event()
    context = make_parts()
    zombie = runner_of(context, works_until(released, result=lambda _: True))
    thread = in_thread(zombie.run, JobKind.GENERATE)
    wait_until(lambda: bool(blob_keys(service, keys.job_prefix(job_id))))
    context.draining.set()  # or it would take the job again itself
    # What the reconciler does once a lease has run out.
    assert reconciler.orphans_at_start(service) == 1
    thread.join(30)
    assert look_at(service, job_id).status is JobStatus.QUEUED
    Runner(make_parts()).run(JobKind.GENERATE)
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
    assert blob_keys(service, keys.job_prefix(job_id)) == [f"jobs/{job_id}/2/0.png"]


def test_a_job_keeps_its_lease_for_as_long_as_it_works(
    service: Service, context: WorkerContext
) -> None:
    now, lease = datetime.now(UTC), timedelta(seconds=service.settings.lease_seconds)
    service.database._clock = lambda: now
    job_id = accept_generation(service)
    released = Event()
    thread = in_thread(
        runner_of(context, works_until(released, result=lambda _: True)).run, JobKind.GENERATE
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


@pytest.mark.parametrize(("kind", "field"), [("train", "training"), ("generate", "config")])
def test_a_job_whose_options_only_a_newer_release_knows_rests_until_one_takes_it(
    service: Service, context: WorkerContext, kind: JobKind, field: str
) -> None:
    job_id = accept_training(service) if kind == "train" else accept_generation(service)
    with service.database.write() as session:
        job = session.get_one(JobRow, job_id)
        job.payload = {**job.payload, field: {**job.payload[field], "of_tomorrow": 1}}
    Runner(context).run(JobKind(kind))
    with service.database.read() as session:
        job = session.get_one(JobRow, job_id)
    assert (job.status, job.attempts_spent) == (JobStatus.QUEUED, 0)
    assert job.not_before is not None


def test_a_damaged_concept_file_is_a_named_problem(
    service: Service, context: WorkerContext, concept: Concept
) -> None:
    key = add_concept(service, concept)
    job_id = accept_generation(service, "a photo of a <rex>")
    service.blobs.put(key, b"not what it was")
    Runner(context).run(JobKind.GENERATE)
    job = look_at(service, job_id)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.type == "/problems/concept-file"
    assert "train it again" in job.error.detail


def test_a_concept_that_was_deleted_meanwhile_is_a_named_problem(
    service: Service, context: WorkerContext, concept: Concept
) -> None:
    key = add_concept(service, concept)
    job_id = accept_generation(service, "a photo of a <rex>")
    service.blobs.delete(key)
    Runner(context).run(JobKind.GENERATE)
    error = look_at(service, job_id).error
    assert error is not None
    assert error.type == "/problems/file-gone"


def test_a_worker_that_has_a_deleted_concept_in_memory_generates_nothing_with_it(
    service: Service, context: WorkerContext, concept: Concept
) -> None:
    add_concept(service, concept)
    warm = accept_generation(service, "a photo of a <rex>")
    Runner(context).run(JobKind.GENERATE)
    assert look_at(service, warm).status is JobStatus.SUCCEEDED
    late = accept_generation(service, "a photo of a <rex>")
    concepts.delete(service, OWNER, ref="rex")
    add_concept(service, concept)  # another of the same name is not the one that was asked for
    Runner(context).run(JobKind.GENERATE)
    error = look_at(service, late).error
    assert error is not None
    assert error.type == "/problems/file-gone"
    assert "<rex>" in error.detail


def test_an_error_of_the_method_reaches_the_owner_in_its_own_words(
    service: Service, context: WorkerContext
) -> None:
    job_id = accept_training(service)
    runner_of(context, failing(TrainingDiverged("Try a learning_rate below 0.03."))).run(
        JobKind.TRAIN
    )
    assert look_at(service, job_id).error.to_json() == {
        "type": "/problems/training-diverged",
        "title": "Training diverged",
        "detail": "Try a learning_rate below 0.03.",
    }


@pytest.mark.parametrize("kind", JobKind)
def test_a_job_that_is_too_large_for_the_workers_base_model_fails_in_words(
    service: Service, make_parts: Callable[[], WorkerContext], kind: JobKind
) -> None:
    # Accepted while no base model was known.
    if kind is JobKind.TRAIN:
        job_id = accept_training(service, resolution=2048)
    else:
        job_id = accept_generation(service, width=2048, height=2048)
    Runner(make_parts()).run(kind)
    error = look_at(service, job_id).error
    assert error is not None
    assert error.type == "/problems/job-too-large"
    assert "at most" in error.detail


def test_an_unexpected_error_shows_only_an_id_whose_trace_is_in_the_log(
    service: Service, context: WorkerContext
) -> None:
    job_id = accept_generation(service)
    with capture_logs() as lines:
        runner_of(context, failing(ZeroDivisionError("secret detail"))).run(JobKind.GENERATE)
    job = look_at(service, job_id)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.type == "/problems/internal"
    assert "secret" not in str(job.error)
    line = next(line for line in lines if line["event"] == "job.unexpected_error")
    assert line["report"] in job.error.detail
    assert isinstance(line["exc_info"], ZeroDivisionError)


def test_what_an_error_for_want_of_memory_held_is_free_before_memory_is_given_back(
    service: Service, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Large:
        """Stands for a tensor in a frame of what failed."""

    held: list[weakref.ref[Large]] = []
    freed: list[bool] = []

    def work(context: WorkerContext, claimed: ClaimedJob, heartbeat: Heartbeat) -> bool:
        large = Large()
        held.append(weakref.ref(large))
        raise MemoryError

    monkeypatch.setattr(runner_module, "free_memory", lambda: freed.append(held[0]() is None))
    job_id = accept_generation(service)
    runner_of(context, work).run(JobKind.GENERATE)
    assert freed == [True]
    error = look_at(service, job_id).error
    assert error is not None
    assert error.type == "/problems/out-of-memory"


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
        Runner(context).run(JobKind.GENERATE)  # nothing, until the job has rested
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
    runner_of(context, failing(away)).run(JobKind.GENERATE)
    assert look_at(service, job_id).status is JobStatus.QUEUED
    with service.database.read() as session:
        [job] = session.scalars(select(JobRow))
        assert job.not_before is not None
        assert timedelta() < job.not_before - now <= timedelta(minutes=6)


def test_a_broken_device_ends_the_claims_of_this_process(
    service: Service, context: WorkerContext
) -> None:
    first, second = accept_generation(service), accept_generation(service)
    broken = RuntimeError("CUDA error: an illegal memory access was encountered")
    runner_of(context, failing(broken)).run(JobKind.GENERATE)
    Runner(context).run(JobKind.GENERATE)
    assert context.broken.is_set()
    assert look_at(service, first).status is JobStatus.QUEUED
    assert events(service, second) == [("queued", 0)]


def test_a_draining_worker_claims_nothing(service: Service, context: WorkerContext) -> None:
    job_id = accept_generation(service)
    context.draining.set()
    Runner(context).run(JobKind.GENERATE)
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
        Runner(context).run(JobKind.GENERATE)
        context.model_loader.stop()
    assert look_at(service, job_id).status is JobStatus.QUEUED
    assert "no/such-folder" in (context.model_loader.problem or "")
    assert [line["event"] for line in lines] == ["base_model.not_loaded"]

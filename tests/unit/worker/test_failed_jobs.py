"""A job that cannot succeed ends failed, with a problem that its owner can read."""

import weakref
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from perfusion_core.concept import Concept
from perfusion_core.errors import TrainingDiverged
from service.concepts import use_cases as concepts
from service.execution.leases import ClaimedJob
from service.statuses import JobStatus, Queue
from service.wiring import Service
from tests.unit.worker.staging import (
    OWNER,
    accept_generation,
    accept_training,
    add_concept,
    failing,
    look_at,
    runner_of,
)
from worker import runner as runner_module
from worker.context import WorkerContext
from worker.heartbeat import Heartbeat
from worker.runner import Runner


def test_a_damaged_concept_file_is_a_named_problem(
    service: Service, context: WorkerContext, concept: Concept
) -> None:
    key = add_concept(service, concept)
    job_id = accept_generation(service, "a photo of a <rex>")
    service.blobs.put(key, b"not what it was")
    Runner(context).run(Queue.GENERATE)
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
    Runner(context).run(Queue.GENERATE)
    error = look_at(service, job_id).error
    assert error is not None
    assert error.type == "/problems/file-gone"


def test_a_worker_that_has_a_deleted_concept_in_memory_generates_nothing_with_it(
    service: Service, context: WorkerContext, concept: Concept
) -> None:
    add_concept(service, concept)
    warm = accept_generation(service, "a photo of a <rex>")
    Runner(context).run(Queue.GENERATE)
    assert look_at(service, warm).status is JobStatus.SUCCEEDED
    late = accept_generation(service, "a photo of a <rex>")
    concepts.delete(service, OWNER, ref="rex")
    add_concept(service, concept)  # another of the same name is not the one that was asked for
    Runner(context).run(Queue.GENERATE)
    error = look_at(service, late).error
    assert error is not None
    assert error.type == "/problems/file-gone"
    assert "<rex>" in error.detail


def test_an_error_of_the_method_reaches_the_owner_in_its_own_words(
    service: Service, context: WorkerContext
) -> None:
    job_id = accept_training(service)
    runner_of(context, failing(TrainingDiverged("Try a learning_rate below 0.03."))).run(
        Queue.TRAIN
    )
    assert look_at(service, job_id).error.to_json() == {
        "type": "/problems/training-diverged",
        "title": "Training diverged",
        "detail": "Try a learning_rate below 0.03.",
    }


@pytest.mark.parametrize("queue", Queue)
def test_a_job_that_is_too_large_for_the_workers_base_model_fails_in_words(
    service: Service, make_context: Callable[[], WorkerContext], queue: Queue
) -> None:
    # Accepted while no base model was known.
    if queue is Queue.TRAIN:
        job_id = accept_training(service, resolution=2048)
    else:
        job_id = accept_generation(service, width=2048, height=2048)
    Runner(make_context()).run(queue)
    error = look_at(service, job_id).error
    assert error is not None
    assert error.type == "/problems/job-too-large"
    assert "at most" in error.detail


def test_an_unexpected_error_shows_only_an_id_whose_trace_is_in_the_log(
    service: Service, context: WorkerContext
) -> None:
    job_id = accept_generation(service)
    with capture_logs() as lines:
        runner_of(context, failing(ZeroDivisionError("secret detail"))).run(Queue.GENERATE)
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
    runner_of(context, work).run(Queue.GENERATE)
    assert freed == [True]
    error = look_at(service, job_id).error
    assert error is not None
    assert error.type == "/problems/out-of-memory"

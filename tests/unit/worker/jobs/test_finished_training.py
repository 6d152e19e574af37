"""A training that its owner ends early, through the whole worker."""

from collections.abc import Callable

import numpy as np
import pytest

from perfusion_core.concept import Concept
from service.concepts import use_cases as concepts
from service.database.tables import JobRow
from service.execution import reconciler
from service.jobs import finishing
from service.statuses import ConceptStatus, JobStatus, Queue
from service.wiring import Service
from tests.unit.worker.staging import OWNER, accept_training, in_thread, look_at, wait_until
from worker.context import WorkerContext
from worker.jobs.checkpoints import Checkpoints
from worker.runner import Runner

MANY = 20_000


def concept_of(service: Service, name: str) -> Concept:
    return Concept.from_bytes(concepts.read_file(service, OWNER, ref=name).data)


def begun(service: Service, context: WorkerContext, job_id: str) -> Callable[[float], None]:
    """Start the training, and return what waits for the end of its thread."""
    thread = in_thread(Runner(context).run, Queue.TRAIN)
    wait_until(lambda: look_at(service, job_id).progress.step >= 3)
    return thread.join


def test_a_finished_training_keeps_what_it_has_learned(
    service: Service, context: WorkerContext
) -> None:
    job_id = accept_training(service, max_train_steps=MANY)
    join = begun(service, context, job_id)
    asked_at = finishing.finish(service, OWNER, job_id=job_id).progress.step
    join(60)
    job = look_at(service, job_id)
    assert job.status is JobStatus.SUCCEEDED
    assert concepts.get(service, OWNER, ref="rex").status is ConceptStatus.READY
    steps = concept_of(service, "rex").training["steps"]
    assert isinstance(steps, int) and asked_at <= steps < MANY
    # The concept is the one that a training of so many steps gives.
    accept_training(service, name="short", max_train_steps=steps)
    Runner(context).run(Queue.TRAIN)
    assert np.array_equal(concept_of(service, "short").o_v, concept_of(service, "rex").o_v)


@pytest.mark.parametrize("saves", [True, False])
def test_the_next_attempt_of_a_lost_worker_finishes_too_and_not_with_less(
    service: Service,
    make_context: Callable[[], WorkerContext],
    monkeypatch: pytest.MonkeyPatch,
    saves: bool,
) -> None:
    job_id = accept_training(service, max_train_steps=MANY)
    first = make_context()
    if not saves:
        monkeypatch.setattr(Checkpoints, "save", lambda *_: None)
    join = begun(service, first, job_id)
    asked_at = finishing.finish(service, OWNER, job_id=job_id).progress.step
    with service.database.write() as session:  # as if the worker were gone
        session.get_one(JobRow, job_id).lease_token = "another's"
    join(60)
    with service.database.write() as session:
        job = session.get_one(JobRow, job_id)
        assert job.lease_until is not None
        job.lease_until = job.created_at
    assert reconciler.reconcile(service).requeued == 1
    Runner(make_context()).run(Queue.TRAIN)
    job = look_at(service, job_id)
    assert (job.status, job.attempt) == (JobStatus.SUCCEEDED, 2)
    steps = concept_of(service, "rex").training["steps"]
    assert isinstance(steps, int) and asked_at <= steps < MANY

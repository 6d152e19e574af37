"""A worker that cannot learn how a job ended deletes nothing: only the row knows."""

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from service.concepts import use_cases as concepts
from service.errors import Unavailable
from service.execution import leases
from service.jobs import use_cases as jobs
from service.jobs.lease_types import ClaimedJob
from service.statuses import JobKind, Queue
from service.wiring import Service
from tests.unit.service.staging import LosingDatabase
from tests.unit.worker.staging import (
    OWNER,
    accept_generation,
    accept_training,
    events,
    look_at,
    wait_until,
)
from worker import runner as runner_module
from worker.context import WorkerContext
from worker.heartbeat import Heartbeat
from worker.runner import Runner, Work, _work_on_the_device


class LostAnswers:
    """Loses the answers of a job's own commits, a number of them from a moment on.

    The heartbeat, in its thread, hears its answers: it learns that the job runs no more.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.began = False

    def __call__(self) -> bool:
        if not self.began or threading.current_thread().name.startswith("heartbeat"):
            return False
        self.number -= 1
        return self.number >= 0


def losing(work: Work, lost: LostAnswers, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Work whose answers are lost from the moment on at which it records its result."""

    def work_and_lose(context: WorkerContext, claimed: ClaimedJob, heartbeat: Heartbeat) -> bool:
        original = heartbeat.retry_while_unavailable

        def retry_while_unavailable(write: Callable[[], bool]) -> bool:
            lost.began = True
            return original(write)

        monkeypatch.setattr(heartbeat, "retry_while_unavailable", retry_while_unavailable)
        return work(context, claimed, heartbeat)

    return work_and_lose


@pytest.mark.parametrize("number", [1, 2, 5, 9])
@pytest.mark.parametrize("kind", [JobKind.TRAIN, JobKind.GENERATE])
def test_a_job_that_succeeded_keeps_its_results_however_many_answers_are_lost(
    service: Service,
    context: WorkerContext,
    kind: JobKind,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = LostAnswers(number)
    context = replace(
        context, service=replace(service, database=LosingDatabase(service.database, loses=lost))
    )
    job_id = accept_training(service) if kind is JobKind.TRAIN else accept_generation(service)
    work = {kind: losing(_work_on_the_device()[kind], lost, monkeypatch)}
    Runner(context, work=work).run(kind.queue)
    assert events(service, job_id) == [("queued", 0), ("running", 1), ("succeeded", 1)]
    if kind is JobKind.TRAIN:
        assert concepts.read_file(service, OWNER, ref="rex").data
    else:
        assert jobs.read_image(service, OWNER, image_id=look_at(service, job_id).images[0].id).data
    assert lost.number < 0  # all of them were lost


def test_a_worker_that_stops_before_it_learns_how_a_job_ended_deletes_nothing(
    service: Service, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = LostAnswers(10**6)
    lost.began = True
    context = replace(
        context, service=replace(service, database=LosingDatabase(service.database, loses=lost))
    )
    job_id = accept_generation(service)

    def retry_while_unavailable(heartbeat: Heartbeat, write: Callable[[], bool]) -> bool:
        def write_and_stop() -> bool:
            try:
                return write()
            except Unavailable:
                wait_until(lambda: heartbeat._lost)  # the heartbeat finds that the job does not run
                context.draining.set()
                context.halted.set()
                raise

        return original(heartbeat, write_and_stop)

    original = Heartbeat.retry_while_unavailable
    monkeypatch.setattr(Heartbeat, "retry_while_unavailable", retry_while_unavailable)
    with capture_logs() as lines:
        Runner(context).run(Queue.GENERATE)
    assert [line["end"] for line in lines if line["event"] == "job.left"] == ["lost"]
    assert jobs.read_image(service, OWNER, image_id=look_at(service, job_id).images[0].id).data


@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_claim_whose_answer_is_lost_is_worked_on_at_once_and_costs_no_attempt(
    service: Service, context: WorkerContext, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "_RETRY_SECONDS", 0.01)
    lost = LostAnswers(number)
    lost.began = True
    losing = replace(service, database=LosingDatabase(service.database, loses=lost))
    job_ids = [accept_generation(service, seed=seed) for seed in (1, 2)]
    Runner(replace(context, service=losing)).run(Queue.GENERATE)
    for job_id in job_ids:
        assert events(service, job_id) == [("queued", 0), ("running", 1), ("succeeded", 1)]
    assert lost.number < 0


def test_a_claim_that_did_not_happen_is_not_waited_for(
    service: Service, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise Unavailable("database-unavailable", "The connection broke.")

    monkeypatch.setattr(leases, "claim_next", away)
    job_id = accept_generation(service)
    Runner(context).run(Queue.GENERATE)
    assert events(service, job_id) == [("queued", 0)]

"""Row locks and the clock of PostgreSQL when several transactions meet."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Connection, select, text

from service.concepts import rows as concept_rows
from service.concepts import use_cases as concepts
from service.database.tables import JobRow
from service.errors import NotFound
from service.execution import leases, reconciler
from service.idempotency import Answer, Idempotency, answer_once
from service.jobs import transitions
from service.jobs import use_cases as jobs
from service.statuses import JobStatus, Queue
from service.wiring import Service
from tests.unit.service.staging import OWNER, STRANGER, submit, try_to_claim, uploaded

pytestmark = pytest.mark.servers


def test_leases_follow_the_clock_of_the_server(service: Service) -> None:
    with service.database.read() as session:
        first, second = service.database.now(session), service.database.now(session)
    # The transaction's own time stands still, so a lease would begin before its claim.
    assert first < second


def test_a_cancellation_is_not_lost_between_running_and_waiting(service: Service) -> None:
    """While a worker gives a job back, the job changes from running to waiting."""
    claimed = try_to_claim(service, submit(service), worker_id="w")
    assert claimed is not None
    with ThreadPoolExecutor(1) as pool:
        with service.database.write() as session:
            # The worker gives the job back, but has not committed yet.
            transitions.change(
                session,
                now=service.database.now(session),
                where=(JobRow.id == claimed.id,),
                old=JobStatus.RUNNING,
                new=JobStatus.QUEUED,
                reason="released",
            )
            cancelling = pool.submit(jobs.cancel, service, OWNER, job_id=claimed.id)
            time.sleep(0.5)
        assert cancelling.result(timeout=10).status is JobStatus.CANCELLED


def test_a_worker_frozen_inside_a_transaction_stops_nobody_for_long(service: Service) -> None:
    """The reconciler skips the locked row at once, and later the server ends the transaction."""
    job_id, other_id = submit(service), submit(service, "other")
    for claimed_id in (job_id, other_id):
        assert try_to_claim(service, claimed_id, worker_id="w") is not None
    with service.database.write() as session:
        session.execute(text("UPDATE jobs SET lease_until = clock_timestamp() - interval '1 s'"))
    frozen = service.database.engine.execution_options(writes=True).connect()
    frozen.execute(text("SELECT 1 FROM jobs WHERE id = :id FOR UPDATE"), {"id": job_id})
    try:
        assert reconciler.reconcile(service).requeued == 1
        assert jobs.get(service, OWNER, job_id=other_id).status is JobStatus.QUEUED
        give_up_at = time.monotonic() + 15
        while not reconciler.reconcile(service).requeued and time.monotonic() < give_up_at:
            time.sleep(0.5)
        assert jobs.get(service, OWNER, job_id=job_id).status is JobStatus.QUEUED
    finally:
        frozen.invalidate()
        frozen.close()


def test_many_workers_at_once_take_each_job_once_and_by_turns(service: Service) -> None:
    for owner_id, count in ((OWNER, 30), (STRANGER, 10)):
        for n in range(count):
            submit(service, f"concept-{n}", owner_id=owner_id)

    def work(n: int) -> list[str]:
        taken = []
        while (claimed := leases.claim_next(service, Queue.TRAIN, worker_id=f"w{n}")) is not None:
            taken.append(claimed.id)
        return taken

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(work, range(8)))
    with service.database.read() as session:
        rows = list(session.scalars(select(JobRow)))
    turn_of = {job.id: job.turn for job in rows}
    assert sorted(job_id for job_ids in taken for job_id in job_ids) == sorted(turn_of)
    assert len(turn_of) == 40
    # The rows do not say which of two workers claimed first. But each worker takes the lowest turn
    # that is left, so its turns rise, although the stranger's jobs came after all thirty.
    for job_ids in taken:
        turns = [turn_of[job_id] for job_id in job_ids]
        assert turns == sorted(turns)
    assert max(job.turn for job in rows if job.owner_id == STRANGER) <= 10


def test_a_claim_passes_by_a_job_that_another_worker_is_claiming(service: Service) -> None:
    first, second = submit(service, "first"), submit(service, "second")
    with service.database.write() as session:
        session.execute(text("SELECT 1 FROM jobs WHERE id = :id FOR UPDATE"), {"id": first})
        claimed = leases.claim_next(service, Queue.TRAIN, worker_id="w")
        assert claimed is not None and claimed.id == second


def test_two_equal_requests_of_the_same_moment_are_done_once(service: Service) -> None:
    """Both have found no earlier answer when the first of them writes."""
    looked = threading.Barrier(2)

    def act(connection: Connection, now: datetime) -> tuple[dict[str, Any], str]:
        with suppress(threading.BrokenBarrierError):
            looked.wait(timeout=5)
        return {"thread": threading.get_ident()}, "/jobs/job_1"

    def ask(_: int) -> Answer:
        key = Idempotency("k")
        return answer_once(service, OWNER, idempotency=key, request_sha256="1" * 64, act=act)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(ask, range(2))
    assert sorted([first.replayed, second.replayed]) == [False, True]
    assert first.body == second.body


def test_a_request_whose_like_is_answered_while_it_works_gets_that_answer_and_no_refusal(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request has found no earlier answer, and then finds its concept's name taken."""

    def create() -> Answer:
        return concepts.create(
            service,
            OWNER,
            name="rex",
            superclass="dog",
            pictures=uploaded(),
            training={},
            idempotency=Idempotency("k"),
        )

    answers = []
    free_name = concept_rows.free_name

    def meanwhile(*arguments: Any, **named: Any) -> Any:
        monkeypatch.undo()
        with ThreadPoolExecutor(1) as pool:
            answers.append(pool.submit(create).result())
        return free_name(*arguments, **named)

    monkeypatch.setattr(concept_rows, "free_name", meanwhile)
    answers.append(create())
    assert [answer.replayed for answer in answers] == [False, True]
    assert answers[0].body == answers[1].body


@pytest.mark.parametrize("second", ["delete", "replace"])
def test_a_concept_that_another_request_deletes_meanwhile_is_gone_and_no_error(
    service: Service, second: str
) -> None:
    job_id = submit(service, "rex")
    assert jobs.cancel(service, OWNER, job_id=job_id).status is JobStatus.CANCELLED
    with ThreadPoolExecutor(1) as pool:
        with service.database.write() as session:
            row = concept_rows.find(session, OWNER, ref="rex")
            session.delete(concept_rows.lock(session, row))
            session.flush()
            if second == "delete":
                waiting = pool.submit(concepts.delete, service, OWNER, ref="rex")
            else:
                waiting = pool.submit(submit, service, "rex")
            await_a_lock(service)
        if second == "delete":
            with pytest.raises(NotFound):
                waiting.result()
        else:
            assert waiting.result() != job_id


def test_a_failed_concept_that_is_deleted_and_replaced_at_once_costs_nobody_a_deadlock(
    service: Service,
) -> None:
    job_id = submit(service, "rex")
    assert jobs.cancel(service, OWNER, job_id=job_id).status is JobStatus.CANCELLED
    with ThreadPoolExecutor(1) as pool:
        with service.database.write() as session:
            # A deletion has locked the job, and then locks the concept.
            session.execute(select(JobRow.id).where(JobRow.id == job_id).with_for_update())
            replacing = pool.submit(submit, service, "rex")
            await_a_lock(service)
            concept_rows.lock(session, concept_rows.find(session, OWNER, ref="rex"))
        assert replacing.result() != job_id


def await_a_lock(service: Service) -> None:
    """Return once a transaction waits for a row that another one has locked."""
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    while True:
        with service.database.read() as session:
            if session.scalar(text(waits)):
                return
        time.sleep(0.01)

"""Each job ends once, in any order of claims, heartbeats, crashes, repairs and cancellations.

The machine drives the real code on a real database. The answer to any commit may be lost; the blobs
that a row names are there nevertheless. The last test proves that the machine can fail: without
the lease token in the conditions, a worker that lost its lease ends the job.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, event, select

from service.blobs import keys
from service.database.tables import ImageRow, JobEventRow, JobRow
from service.errors import Conflict, Unavailable, problem
from service.execution import checkpoints, leases, reconciler
from service.execution.leases import ClaimedJob, NewImage
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.jobs import use_cases as jobs
from service.jobs.views import ProgressView
from service.statuses import TERMINAL, JobStatus, Queue
from service.wiring import Service
from tests.unit.service.staging import OWNER, Clock, LosingDatabase, try_to_claim

BODY = GenerateRequest(prompt="a boat", num_images=1, seed=1)
QUICK = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)


class LeaseMachine(RuleBasedStateMachine):
    """Model the jobs and claims of a few workers, in any order, while time passes."""

    jobs = Bundle("jobs")
    claims = Bundle("claims")
    service: Service
    clock: Clock

    def __init__(self) -> None:
        super().__init__()
        with self.service.database.write() as session:
            session.execute(delete(ImageRow))
            session.execute(delete(JobRow))
        self.ended: dict[str, JobStatus] = {}
        self.winners: dict[str, int] = {}

    def holds(self, claimed: ClaimedJob) -> bool:
        with self.service.database.read() as session:
            row = session.get_one(JobRow, claimed.id)
            return row.status is JobStatus.RUNNING and row.lease_token == claimed.lease_token

    def answering(self, answered: bool) -> Service:
        """Return the service; unless `answered`, the answers to its commits are lost."""
        database = self.service.database
        return (
            self.service if answered else replace(self.service, database=LosingDatabase(database))
        )

    @rule(target=jobs)
    def submit(self) -> str:
        answer = generations.request(self.service, OWNER, body=BODY)
        return str(answer.body["job"]["id"])

    @rule(target=claims, job_id=jobs, worker=st.sampled_from(["w1", "w2"]))
    def claim(self, job_id: str, worker: str) -> Any:
        claimed = try_to_claim(self.service, job_id, worker_id=worker)
        return multiple() if claimed is None else claimed

    @rule(target=claims, worker=st.sampled_from(["w1", "w2"]), answered=st.booleans())
    def take_the_next(self, worker: str, answered: bool) -> Any:
        token = leases.new_token()
        with suppress(Unavailable):
            leases.claim_next(
                self.answering(answered), Queue.GENERATE, worker_id=worker, token=token
            )
        claimed = leases.claimed_with(self.service, token)
        return multiple() if claimed is None else claimed

    @rule(claimed=claims, step=st.integers(0, 5))
    def heartbeat(self, claimed: ClaimedJob, step: int) -> None:
        held = self.holds(claimed)
        progress = ProgressView(step=step, total_steps=5)
        lease = leases.heartbeat(self.service, claimed, progress=progress).lease
        assert (lease is not leases.Lease.LOST) == held

    @rule(claimed=claims, answered=st.booleans())
    def finish(self, claimed: ClaimedJob, answered: bool = True) -> None:
        may = self.holds(claimed) or self.winners.get(claimed.id) == claimed.attempt
        image = NewImage(
            index=0,
            seed=1,
            width=8,
            height=8,
            blob_key=f"jobs/{claimed.id}/{claimed.attempt}/0.png",
            sha256="0" * 64,
            size_bytes=3,
        )
        self.service.blobs.put_new(image.blob_key, b"png")
        try:
            won = leases.finish_generation(self.answering(answered), claimed, images=[image])
        except Unavailable:
            with self.service.database.read() as session:
                won = may and session.get_one(JobRow, claimed.id).status is JobStatus.SUCCEEDED
        if won:
            assert may
            self.winners[claimed.id] = claimed.attempt

    @rule(claimed=claims, step=st.integers(1, 9), answered=st.booleans())
    def save(self, claimed: ClaimedJob, step: int, answered: bool) -> None:
        held = self.holds(claimed)
        with suppress(Unavailable):
            saved = checkpoints.save_state(
                self.answering(answered), claimed, state=b"state", step=step
            )
            assert saved == held

    @rule(
        claimed=claims,
        end=st.sampled_from(["fail", "stop", "drain", "give up"]),
        answered=st.booleans(),
    )
    def leave(self, claimed: ClaimedJob, end: str, answered: bool) -> None:
        held, ended = self.holds(claimed), claimed.id in self.ended
        service = self.answering(answered)
        try:
            if end == "fail":
                left = leases.fail(service, claimed, problem=problem("broken", "It broke."))
            elif end == "stop":
                left = leases.cancelled(service, claimed)
            else:
                left = leases.release(
                    service, claimed, delay_seconds=1, spend_attempt=end == "give up"
                )
        except Unavailable:
            return
        assert left or not held
        assert held or ended or not left

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        try:
            jobs.cancel(self.service, OWNER, job_id=job_id)
        except Conflict:
            assert job_id in self.ended

    @rule(seconds=st.sampled_from([5, 31]))
    def tick(self, seconds: int) -> None:
        self.clock.tick(seconds)

    @rule()
    def reconcile(self) -> None:
        reconciler.reconcile(self.service)

    @rule()
    def restart(self) -> None:
        reconciler.orphans_at_start(self.service)

    @invariant()
    def an_end_is_final_and_happens_once(self) -> None:
        with self.service.database.read() as session:
            rows = {row.id: row for row in session.scalars(select(JobRow))}
            ends = Counter(
                session.scalars(
                    select(JobEventRow.job_id).where(
                        JobEventRow.to_status.in_([status.value for status in TERMINAL])
                    )
                )
            )
            images = list(session.scalars(select(ImageRow)))
        for job_id, status in self.ended.items():
            assert rows[job_id].status is status
        for job_id, row in rows.items():
            if row.status not in TERMINAL and row.state_attempt is not None:
                assert self.service.blobs.get(keys.state_key(job_id, row.state_attempt))
            assert 0 <= row.attempts_spent <= row.max_attempts
            assert ends[job_id] == (row.status in TERMINAL)
            assert (row.lease_until is not None) == (row.status is JobStatus.RUNNING)
            if row.status in TERMINAL:
                self.ended[job_id] = row.status
        succeeded = {job_id for job_id, row in rows.items() if row.status is JobStatus.SUCCEEDED}
        assert Counter(image.job_id for image in images) == Counter(succeeded)
        for image in images:
            # The stored image is that of the attempt that won.
            assert image.blob_key == f"jobs/{image.job_id}/{self.winners[image.job_id]}/0.png"
            assert self.service.blobs.get(image.blob_key) == b"png"


@pytest.fixture(autouse=True)
def stage(make_service: Callable[..., Service], clock: Clock) -> None:
    LeaseMachine.service = make_service(max_attempts=2)
    LeaseMachine.clock = clock
    engine = LeaseMachine.service.database.engine
    if engine.dialect.name == "sqlite":
        # This test has no power cuts, and durable commits would make thousands of steps slow.
        event.listen(
            engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF")
        )


def test_every_job_ends_once_with_at_most_one_result() -> None:
    run_state_machine_as_test(LeaseMachine, settings=QUICK)


def zombie_finishes() -> None:
    machine = LeaseMachine()
    job_id = machine.submit()
    zombie = machine.claim(job_id, "w1")
    machine.restart()
    machine.claim(job_id, "w2")
    machine.finish(zombie)
    machine.an_end_is_final_and_happens_once()


def test_without_the_token_check_the_machine_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    zombie_finishes()
    monkeypatch.setattr(leases, "held", lambda claimed: (JobRow.id == claimed.id,))
    with pytest.raises(AssertionError):
        zombie_finishes()

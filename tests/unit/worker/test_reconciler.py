"""After a pause a process waits two heartbeats before it takes jobs away."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from service.database.engine import Database
from service.execution import leases, reconciler
from service.jobs.lease_types import ClaimedJob, Lease
from service.statuses import JobStatus
from service.wiring import Service
from tests.unit.worker.staging import accept_generation, claim, look_at
from worker.reconciler import Reconciler


class Clocks:
    """A machine's clocks, set by the test."""

    def __init__(self) -> None:
        self.monotonic, self.wall = 0.0, datetime.now(UTC)

    def __call__(self) -> tuple[float, float]:
        return self.monotonic, self.wall.timestamp()

    def pass_by(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += timedelta(seconds=seconds)

    def suspend(self, seconds: float) -> None:
        """The machine sleeps: its monotonic clock stands still."""
        self.wall += timedelta(seconds=seconds)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def service(service: Service, clocks: Clocks) -> Service:
    return replace(service, database=Database(service.database.engine, clock=lambda: clocks.wall))


@pytest.fixture
def claimed(service: Service) -> ClaimedJob:
    return claim(service, accept_generation(service))


def test_a_heartbeat_speaks_first_when_a_process_has_been_stopped_or_its_machine_suspended(
    service: Service, clocks: Clocks, claimed: ClaimedJob
) -> None:
    repairs = Reconciler(service, clocks=clocks)
    duties = repairs._duties()
    for pause in (clocks.pass_by, clocks.suspend):
        repairs._do(duties)
        pause(10 * service.settings.lease_seconds)
        clocks.pass_by(service.settings.reconcile_seconds)
        repairs._do(duties)
        assert look_at(service, claimed.id).status is JobStatus.RUNNING
        assert leases.heartbeat(service, claimed).lease is Lease.KEPT
        clocks.pass_by(2 * service.settings.heartbeat_seconds)
        repairs._do(duties)
        assert look_at(service, claimed.id).status is JobStatus.RUNNING


def test_a_job_whose_heartbeat_stays_silent_after_a_pause_is_taken_away_two_heartbeats_later(
    service: Service, clocks: Clocks, claimed: ClaimedJob
) -> None:
    repairs = Reconciler(service, clocks=clocks)
    duties = repairs._duties()
    clocks.pass_by(service.settings.lease_seconds + 1)
    repairs._do(duties)
    assert look_at(service, claimed.id).status is JobStatus.RUNNING
    clocks.pass_by(1.9 * service.settings.heartbeat_seconds)
    repairs._do(duties)
    assert look_at(service, claimed.id).status is JobStatus.RUNNING
    clocks.pass_by(1.1 * service.settings.heartbeat_seconds)
    repairs._do(duties)
    assert look_at(service, claimed.id).status is JobStatus.QUEUED


def test_without_a_pause_a_silent_worker_loses_its_job_at_once(
    service: Service, clocks: Clocks, claimed: ClaimedJob
) -> None:
    repairs = Reconciler(service, clocks=clocks)
    duties = repairs._duties()
    over = clocks.monotonic + service.settings.lease_seconds
    while clocks.monotonic < over:
        repairs._do(duties)
        assert look_at(service, claimed.id).status is JobStatus.RUNNING
        clocks.pass_by(0.5)
    clocks.pass_by(0.5)
    repairs._do(duties)
    assert look_at(service, claimed.id).status is JobStatus.QUEUED


def test_a_pause_in_the_middle_of_a_repair_takes_no_job_away(
    service: Service, clocks: Clocks, claimed: ClaimedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    repairs = Reconciler(service, clocks=clocks)
    duties = repairs._duties()
    silent = claim(service, accept_generation(service))
    lease, check = service.settings.lease_seconds, reconciler._check
    for _ in range(4):
        clocks.pass_by(lease / 4)
        repairs._do(duties)
        assert leases.heartbeat(service, claimed).lease is Lease.KEPT
    clocks.pass_by(lease / 4)

    def check_and_sleep(*arguments: object, **named: object) -> object:
        found = check(*arguments, **named)  # type: ignore[arg-type]
        clocks.pass_by(lease)
        return found

    monkeypatch.setattr(reconciler, "_check", check_and_sleep)
    assert repairs._may_take()
    repairs._do(duties)
    for job in (silent, claimed):
        assert look_at(service, job.id).status is JobStatus.RUNNING

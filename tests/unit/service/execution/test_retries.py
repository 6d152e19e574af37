"""A released job waits again; lasting faults or spent attempts end it."""

from service.database.tables import JobRow
from service.execution import checkpoints, leases, reconciler
from service.jobs import use_cases as jobs
from service.statuses import JobStatus
from service.wiring import Service
from tests.unit.service.staging import OWNER, Clock, RecordedNotifier, claim, submit


def row(service: Service, job_id: str) -> JobRow:
    with service.database.read() as session:
        return session.get_one(JobRow, job_id)


def test_a_drained_job_waits_again_and_has_spent_no_attempt(
    service: Service, clock: Clock, notifier: RecordedNotifier
) -> None:
    job_id = submit(service)
    for attempt in range(1, 8):
        claimed = claim(service, job_id)
        assert claimed.attempt == attempt
        assert leases.release(service, claimed, delay_seconds=0, spend_attempt=False)
        assert row(service, job_id).attempts_spent == 0
        notifier.notified.clear()
        reconciler.reconcile(service)
        assert notifier.notified == [(job_id, "train")]


def test_a_delayed_job_is_notified_after_its_delay(
    service: Service, clock: Clock, notifier: RecordedNotifier
) -> None:
    claimed = claim(service, submit(service))
    notifier.notified.clear()
    assert leases.release(service, claimed, delay_seconds=20, spend_attempt=False)
    clock.tick(19)
    assert reconciler.reconcile(service).notified == 0
    clock.tick(2)
    assert reconciler.reconcile(service).notified == 1


def test_released_attempts_that_count_end_the_job(service: Service) -> None:
    job_id = submit(service)
    for _ in range(3):
        assert leases.release(service, claim(service, job_id), delay_seconds=1, spend_attempt=True)
    view = jobs.get(service, OWNER, job_id=job_id)
    assert view.status is JobStatus.FAILED
    assert view.error is not None
    assert view.error.type == "/problems/worker-lost"


def meet_fault(service: Service, job_id: str, *, delay_seconds: float = 5) -> JobStatus:
    """Claim the job and release it because of an infrastructure fault; return its status."""
    claimed = claim(service, job_id)
    leases.release(service, claimed, delay_seconds=delay_seconds, spend_attempt=False)
    return jobs.get(service, OWNER, job_id=job_id).status


def test_an_infrastructure_that_fails_for_a_day_ends_the_job(
    service: Service, clock: Clock
) -> None:
    job_id = submit(service)
    for _ in range(9):
        assert meet_fault(service, job_id, delay_seconds=10_000) is JobStatus.QUEUED
        clock.tick(10_000)
    assert meet_fault(service, job_id) is JobStatus.FAILED
    view = jobs.get(service, OWNER, job_id=job_id)
    assert view.error is not None
    assert view.error.type == "/problems/infrastructure"


def test_the_first_fault_of_a_job_that_began_days_ago_does_not_end_it(
    service: Service, clock: Clock
) -> None:
    job_id = submit(service)
    leases.release(service, claim(service, job_id), delay_seconds=0, spend_attempt=False)
    clock.tick(200_000)
    assert meet_fault(service, job_id) is JobStatus.QUEUED


def test_what_a_job_waits_for_its_turn_between_two_faults_is_no_fault(
    service: Service, clock: Clock
) -> None:
    job_id = submit(service)
    for _ in range(5):
        assert meet_fault(service, job_id) is JobStatus.QUEUED
        clock.tick(100_000)


def test_a_new_training_state_ends_a_series_of_faults(service: Service, clock: Clock) -> None:
    job_id = submit(service)
    for step in range(1, 6):
        assert meet_fault(service, job_id, delay_seconds=50_000) is JobStatus.QUEUED
        clock.tick(50_000)
        claimed = claim(service, job_id)
        checkpoints.save_state(service, claimed, state=b"state", step=step)
        leases.release(service, claimed, delay_seconds=0, spend_attempt=False)
    assert meet_fault(service, job_id, delay_seconds=90_000) is JobStatus.QUEUED
    clock.tick(90_000)
    claimed = claim(service, job_id)
    checkpoints.save_state(service, claimed, state=b"state", step=5)  # no later step than before
    leases.release(service, claimed, delay_seconds=5, spend_attempt=False)
    assert jobs.get(service, OWNER, job_id=job_id).status is JobStatus.FAILED

"""What a worker tells about a running job: its phase, and when it ends."""

import pytest
from sqlalchemy import update

from service.database.tables import JobRow
from service.execution import leases, reconciler
from service.jobs import use_cases as jobs
from service.jobs.views import ProgressView
from service.statuses import JobStatus, Phase
from service.wiring import Service
from tests.unit.service.staging import OWNER, Clock, claim, submit, trained


def progress_of(service: Service, job_id: str) -> ProgressView:
    return jobs.get(service, OWNER, job_id=job_id).progress


def test_a_running_job_tells_its_phase_and_its_workers_estimate(service: Service) -> None:
    claimed = claim(service, submit(service))
    assert progress_of(service, claimed.id).phase is None
    leases.heartbeat(service, claimed, phase=Phase.PREPARING)
    assert progress_of(service, claimed.id).phase is Phase.PREPARING
    # The judgement at the end takes 20 seconds, which the steps know nothing about.
    judged = ProgressView(step=10, total_steps=10, seconds_per_step=2.0, eta_seconds=20.0)
    leases.heartbeat(service, claimed, progress=judged, phase=Phase.EVALUATING)
    assert progress_of(service, claimed.id) == judged.model_copy(update={"phase": Phase.EVALUATING})
    unknown = ProgressView(step=10, total_steps=10, seconds_per_step=2.0)
    leases.heartbeat(service, claimed, progress=unknown)
    assert progress_of(service, claimed.id).eta_seconds is None


@pytest.mark.parametrize("lost", [True, False])
def test_a_job_that_does_not_run_has_no_phase(service: Service, clock: Clock, lost: bool) -> None:
    claimed = claim(service, submit(service))
    leases.heartbeat(service, claimed, phase=Phase.TRAINING)
    if lost:
        clock.tick(31)
        reconciler.reconcile(service)
        assert progress_of(service, claimed.id).phase is None
        claim(service, claimed.id, "worker-2")
    else:
        leases.finish_training(service, claimed, trained=trained(service, claimed))
        assert jobs.get(service, OWNER, job_id=claimed.id).status is JobStatus.SUCCEEDED
    assert progress_of(service, claimed.id).phase is None


def test_a_phase_that_only_a_newer_release_knows_is_unknown_here(service: Service) -> None:
    claimed = claim(service, submit(service))
    with service.database.write() as session:
        session.execute(update(JobRow).values(phase="dreaming"))
    assert progress_of(service, claimed.id).phase is None

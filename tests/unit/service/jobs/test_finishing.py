"""A training that its owner ends early."""

import pytest

from service.database.tables import JobRow
from service.errors import Conflict, NotFound
from service.execution import leases, reconciler
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.jobs import finishing
from service.jobs import use_cases as jobs
from service.jobs.views import ProgressView
from service.wiring import Service
from tests.unit.service.staging import OWNER, STRANGER, Clock, claim, submit, trained


def reported(service: Service, claimed: leases.ClaimedJob, *, step: int) -> int | None:
    progress = ProgressView(step=step, total_steps=50)
    return leases.heartbeat(service, claimed, progress=progress).finish_step


def refusal(service: Service, job_id: str) -> str:
    with pytest.raises(Conflict) as refused:
        finishing.finish(service, OWNER, job_id=job_id)
    return refused.value.slug


def test_the_worker_learns_the_step_that_the_training_had_reached(service: Service) -> None:
    claimed = claim(service, submit(service))
    assert reported(service, claimed, step=7) is None
    before = finishing.finish(service, OWNER, job_id=claimed.id)
    assert reported(service, claimed, step=8) == 7
    # Another call changes nothing.
    assert finishing.finish(service, OWNER, job_id=claimed.id).version == before.version + 1
    assert reported(service, claimed, step=9) == 7
    assert leases.finish_training(service, claimed, trained=trained(service, claimed))


def test_the_wish_outlives_the_worker(service: Service, clock: Clock) -> None:
    claimed = claim(service, submit(service))
    reported(service, claimed, step=7)
    finishing.finish(service, OWNER, job_id=claimed.id)
    clock.tick(31)
    assert reconciler.reconcile(service).requeued == 1
    finishing.finish(service, OWNER, job_id=claimed.id)  # while it waits, too
    heir = claim(service, claimed.id, "worker-2")
    assert heir.finish_step == 7
    assert reported(service, heir, step=1) == 7


def test_a_training_that_learned_nothing_yet_is_cancelled_and_not_finished(
    service: Service,
) -> None:
    job_id = submit(service)
    assert refusal(service, job_id) == "nothing-learned"
    reported(service, claim(service, job_id), step=0)
    assert refusal(service, job_id) == "nothing-learned"


def test_only_a_training_that_has_not_ended_can_finish(service: Service) -> None:
    body = GenerateRequest(prompt="a photo of a dog")
    generation = generations.request(service, OWNER, body=body).body["job"]["id"]
    assert refusal(service, generation) == "not-a-training"
    claimed = claim(service, submit(service))
    reported(service, claimed, step=7)
    with pytest.raises(NotFound):
        finishing.finish(service, STRANGER, job_id=claimed.id)
    jobs.cancel(service, OWNER, job_id=claimed.id)
    assert leases.cancelled(service, claimed)
    assert refusal(service, claimed.id) == "job-finished"
    with service.database.read() as session:
        assert session.get_one(JobRow, claimed.id).finish_requested_at is None

"""Owners take turns with their jobs, within the limits of each owner."""

from collections.abc import Callable

import pytest
from sqlalchemy import text

from service.errors import TooManyRequests
from service.execution import leases
from service.execution.leases import ClaimedJob
from service.generations.requests import GenerateRequest
from service.generations.use_cases import request
from service.jobs import use_cases as jobs
from service.statuses import JobKind, Queue
from service.wiring import Service
from tests.unit.service.inspected import check_pictures
from tests.unit.service.staging import (
    OWNER,
    STRANGER,
    Clock,
    generated,
    submit,
)

THIRD = "owner_c"


def draw(service: Service, owner_id: str = OWNER) -> str:
    body = GenerateRequest(prompt="a boat", num_images=1, seed=1)
    return str(request(service, owner_id, body=body).body["job"]["id"])


def take(service: Service, queue: Queue = Queue.GENERATE) -> ClaimedJob:
    claimed = leases.claim_next(service, queue, worker_id="w")
    assert claimed is not None
    return claimed


def end(service: Service, claimed: ClaimedJob) -> None:
    assert leases.finish_generation(service, claimed, images=generated(service, claimed))


def owners_in_turn(service: Service, count: int) -> list[str]:
    """Return the owners of the next jobs in the order in which a single device takes them."""
    owners = []
    for _ in range(count):
        claimed = take(service)
        owners.append(claimed.owner_id)
        end(service, claimed)
    return owners


def test_one_owners_jobs_run_in_the_order_of_their_arrival(service: Service) -> None:
    job_ids = [draw(service) for _ in range(4)]
    assert [take(service).id for _ in range(4)] == job_ids
    assert leases.claim_next(service, Queue.GENERATE, worker_id="w") is None


def test_a_thousand_jobs_of_one_owner_do_not_starve_another_owners_job(service: Service) -> None:
    for _ in range(20):
        draw(service)
    draw(service, STRANGER)
    draw(service, THIRD)
    assert owners_in_turn(service, 4) == [OWNER, STRANGER, THIRD, OWNER]


def test_owners_who_all_have_many_jobs_alternate(service: Service) -> None:
    for owner_id in (OWNER, STRANGER):
        for _ in range(5):
            draw(service, owner_id)
    assert owners_in_turn(service, 10) == [OWNER, STRANGER] * 5


def test_an_owner_who_comes_late_has_not_saved_up_turns(service: Service) -> None:
    for _ in range(10):
        draw(service)
    owners_in_turn(service, 4)
    for _ in range(10):
        draw(service, STRANGER)
    owners = owners_in_turn(service, 6)
    assert owners.count(OWNER) == owners.count(STRANGER) == 3


def test_an_owner_who_was_alone_is_not_punished_for_it(service: Service) -> None:
    for _ in range(10):
        draw(service)
    for _ in range(9):
        end(service, take(service))
    running = take(service)
    for _ in range(10):
        draw(service, STRANGER)
    end(service, running)
    draw(service)
    assert OWNER in owners_in_turn(service, 3)


def test_trainings_and_generations_wait_in_queues_of_their_own(service: Service) -> None:
    training, drawing = submit(service), draw(service)
    assert take(service, Queue.TRAIN).id == training
    assert take(service).id == drawing


def test_jobs_of_every_kind_wait_in_the_order_of_their_queue(service: Service) -> None:
    inspection, drawing = check_pictures(service), draw(service)
    last, strangers = check_pictures(service), draw(service, STRANGER)
    assert jobs.get(service, OWNER, job_id=last).queue_position == 4
    claims = [take(service) for _ in range(4)]
    assert [claimed.id for claimed in claims] == [inspection, strangers, drawing, last]
    assert [claimed.kind for claimed in claims[1:]] == ["generate", "generate", "inspect"]


def test_a_kind_is_shown_and_filtered_although_another_kind_shares_its_queue(
    service: Service,
) -> None:
    inspection, drawing = check_pictures(service), draw(service)
    for kind, job_id in ((JobKind.INSPECT, inspection), (JobKind.GENERATE, drawing)):
        [job] = jobs.list_page(service, OWNER, kind=kind).items
        assert (job.id, job.kind) == (job_id, kind)


def test_a_kind_of_a_newer_release_counts_as_the_kind_of_its_queue(service: Service) -> None:
    job_id = check_pictures(service)
    with service.database.write() as session:
        session.execute(text("UPDATE jobs SET own_kind = 'of-tomorrow'"))
    assert jobs.get(service, OWNER, job_id=job_id).kind is JobKind.GENERATE
    assert take(service).kind is JobKind.GENERATE


def test_a_job_that_goes_back_keeps_its_turn_but_rests_after_a_fault(
    service: Service, clock: Clock
) -> None:
    first, second = draw(service), draw(service)
    assert leases.release(service, take(service), delay_seconds=10, spend_attempt=False)
    assert take(service).id == second
    assert leases.claim_next(service, Queue.GENERATE, worker_id="w") is None
    third = draw(service)
    clock.tick(11)
    retried = take(service)
    assert (retried.id, retried.faults) == (first, 1)
    assert take(service).id == third


def test_an_owner_runs_no_more_jobs_at_once_than_allowed(
    make_service: Callable[..., Service],
) -> None:
    service = make_service(max_running_jobs_per_owner=2)
    waiting = [draw(service) for _ in range(4)]
    other = draw(service, STRANGER)
    claims = [take(service) for _ in range(3)]
    assert {claimed.id for claimed in claims} == {*waiting[:2], other}
    assert leases.claim_next(service, Queue.GENERATE, worker_id="w") is None
    end(service, next(claimed for claimed in claims if claimed.id == waiting[0]))
    assert take(service).id == waiting[2]


def test_an_owner_has_no_more_jobs_waiting_than_allowed(
    make_service: Callable[..., Service],
) -> None:
    service = make_service(max_queued_jobs_per_owner=2)
    first, _ = draw(service), draw(service)
    with pytest.raises(TooManyRequests):
        draw(service)
    draw(service, STRANGER)
    jobs.cancel(service, OWNER, job_id=first)
    draw(service)

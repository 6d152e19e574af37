"""An inspection is accepted whole, shown to its owner for an hour, and leaves nothing behind."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from service import deployment, quota
from service.errors import Invalid, NotFound, StorageFull, TooManyRequests, problem
from service.execution import leases
from service.garbage import collection, retention
from service.idempotency import Idempotency
from service.jobs import use_cases as jobs
from service.jobs.payloads import GeneratePayload, InspectPayload, NewerPayload
from service.pictures import inspections
from service.statuses import JobStatus, Queue
from service.wiring import Service
from tests.unit.service.inspected import check_and_finish, check_pictures, inspected
from tests.unit.service.staging import (
    OWNER,
    STRANGER,
    Clock,
    RecordedNotifier,
    blob_keys,
    claim,
    uploaded,
)


@pytest.fixture
def service(make_service: Callable[..., Service], clock: Clock) -> Service:
    # Blobs carry the machine's time, so the service's clock must not lie behind it.
    clock.now = datetime.now(UTC) + timedelta(minutes=5)
    service = make_service()
    deployment.check(service)
    return service


def test_an_accepted_inspection_is_all_there_before_the_answer(
    service: Service, notifier: RecordedNotifier
) -> None:
    pictures = uploaded(2)
    answer = inspections.request(service, OWNER, pictures=pictures, superclass="toy  bear")
    job = answer.body["job"]
    assert answer.location == f"/jobs/{job['id']}"
    assert notifier.notified == [(job["id"], Queue.GENERATE)]
    assert job == jobs.get(service, OWNER, job_id=job["id"]).to_json()
    assert (job["kind"], job["queue_position"], job["pictures"]) == ("inspect", 1, None)
    payload = InspectPayload.read(claim(service, job["id"]).payload)
    assert payload.superclass == "toy bear"
    stored = [service.blobs.get(picture.blob_key) for picture in payload.pictures]
    assert stored == [picture.png for picture in pictures]


def test_what_was_found_is_shown_and_the_pictures_are_gone(service: Service) -> None:
    job_id = check_and_finish(service)
    job = jobs.get(service, OWNER, job_id=job_id)
    assert job.status is JobStatus.SUCCEEDED
    assert job.pictures is not None
    first, second = job.pictures
    assert (first.index, first.findings, first.mask_source) == (0, (), "segmenter")
    assert first.mask_url == f"/jobs/{job_id}/pictures/0/mask"
    assert [finding.code for finding in second.findings] == ["blurred"]
    assert (second.crop, second.mask_url) == ((4, 0, 40, 40), None)
    assert blob_keys(service) == {f"jobs/{job_id}/1/0.mask.png"}
    assert jobs.read_mask(service, OWNER, job_id=job_id, number=0).sha256 == "8" * 64


@pytest.mark.parametrize("number", [1, 2])
def test_a_picture_without_a_mask_of_its_own_has_no_mask_to_fetch(
    service: Service, number: int
) -> None:
    with pytest.raises(NotFound):
        jobs.read_mask(service, OWNER, job_id=check_and_finish(service), number=number)


def test_a_mask_is_its_owners(service: Service) -> None:
    with pytest.raises(NotFound):
        jobs.read_mask(service, STRANGER, job_id=check_and_finish(service), number=0)


def test_an_inspection_that_is_cancelled_or_fails_leaves_no_picture(service: Service) -> None:
    jobs.cancel(service, OWNER, job_id=check_pictures(service))
    claimed = claim(service, check_pictures(service))
    assert leases.fail(service, claimed, problem=problem("internal", "It failed."))
    assert blob_keys(service) == set()


def test_the_masks_of_lost_attempts_go_with_the_pictures(service: Service) -> None:
    first = claim(service, check_pictures(service))
    inspected(service, first)
    assert leases.release(service, first, delay_seconds=0, spend_attempt=True)
    second = claim(service, first.id)
    assert leases.finish_inspection(service, second, pictures=inspected(service, second))
    assert blob_keys(service) == {f"jobs/{first.id}/2/0.mask.png"}


def test_an_inspection_is_deleted_an_hour_after_its_end_and_no_sooner(
    service: Service, clock: Clock
) -> None:
    done, waiting = check_and_finish(service), check_pictures(service)
    clock.tick(3590)
    assert retention.release(service) == (0, 0)
    assert collection.collect(service) == 0
    assert jobs.get(service, OWNER, job_id=done).pictures
    assert jobs.read_mask(service, OWNER, job_id=done, number=0).data
    clock.tick(11)
    assert retention.release(service) == (0, 1)
    with pytest.raises(NotFound):
        jobs.get(service, OWNER, job_id=done)
    assert jobs.get(service, OWNER, job_id=waiting)
    assert {key.split("/")[1] for key in blob_keys(service)} == {waiting}


def test_the_collector_keeps_the_masks_that_a_row_names(service: Service, clock: Clock) -> None:
    done = check_and_finish(service)
    service.blobs.put(f"jobs/{done}/1/orphan.png", b"png")
    clock.tick(7200)
    assert collection.collect(service) == 1
    assert blob_keys(service) == {f"jobs/{done}/1/0.mask.png"}


def test_pictures_that_wait_for_their_inspection_count_as_stored(
    make_service: Callable[..., Service],
) -> None:
    service = make_service(max_bytes_per_owner=1024**2)
    job_id = check_pictures(service, 20)
    size_bytes = sum(blob.size_bytes for blob in service.blobs.list(f"jobs/{job_id}/"))
    assert quota.stored_bytes(service, OWNER) == size_bytes
    assert quota.stored_bytes(service, STRANGER) == 0
    service.sizes.known[OWNER] = (float("inf"), 1024**2)
    with pytest.raises(StorageFull):
        check_pictures(service)
    jobs.cancel(service, OWNER, job_id=job_id)
    assert quota.stored_bytes(service, OWNER) == 0
    assert not [key for key in blob_keys(service) if key.startswith("jobs/")]


def test_an_owner_has_no_more_inspections_waiting_than_jobs_allowed(
    make_service: Callable[..., Service],
) -> None:
    service = make_service(max_queued_jobs_per_owner=1)
    kept = check_pictures(service)
    with pytest.raises(TooManyRequests):
        check_pictures(service)
    assert {key.split("/")[1] for key in blob_keys(service)} == {kept}


def test_a_repeated_request_gets_its_first_answer_and_stores_nothing(service: Service) -> None:
    def ask(superclass: str) -> inspections.Answer:
        return inspections.request(
            service,
            OWNER,
            pictures=uploaded(2),
            superclass=superclass,
            idempotency=Idempotency("k"),
        )

    first, before = ask("bear"), blob_keys(service)
    again = ask("bear")
    assert (again.replayed, again.body) == (True, first.body)
    assert blob_keys(service) == before
    with pytest.raises(Invalid):
        ask("dog")


@pytest.mark.parametrize("number", [0, 21])
def test_a_wrong_number_of_pictures_is_refused_and_nothing_stays(
    service: Service, number: int
) -> None:
    with pytest.raises(Invalid) as refused:
        check_pictures(service, number)
    assert [item.pointer for item in refused.value.errors] == ["/images"]
    assert blob_keys(service) == set()


def test_a_worker_of_the_previous_release_cannot_read_an_inspection_as_a_generation(
    service: Service,
) -> None:
    """So it gives the job back, and the job waits for a worker that knows it."""
    claimed = claim(service, check_pictures(service))
    with pytest.raises(NewerPayload):
        GeneratePayload.read(claimed.payload)

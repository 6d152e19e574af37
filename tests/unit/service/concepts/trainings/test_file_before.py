"""The previous file is kept, a revert restores it, and it is deleted with its concept."""

from collections.abc import Callable

import pytest
from sqlalchemy import select

from service import deployment, quota
from service.blobs import keys
from service.concepts import rows, versions
from service.concepts import use_cases as concepts
from service.database.tables import JobRow
from service.errors import Conflict, NotFound
from service.garbage import collection, retention
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.idempotency import Idempotency
from service.statuses import JobStatus
from service.wiring import Service
from tests.unit.service.concepts.trainings.retraining import (
    BETTER,
    NEW_SHA256,
    OLD_SHA256,
    WEAK,
    WEAKER,
    WORSE,
    again,
    first,
    retrain,
    revert,
    teddy,
)
from tests.unit.service.staging import OWNER, Clock, blob_keys, claim, register_base_model

DAY_SECONDS = 24 * 3600


def test_a_revert_brings_back_all_that_the_row_said_and_a_second_one_returns(
    service: Service,
) -> None:
    first(service, **WORSE)
    before = teddy(service)
    data = concepts.read_file(service, OWNER, ref="teddy").data
    retrain(service, **BETTER)
    after = teddy(service)
    reverted = revert(service)
    assert reverted.model_copy(update={"revision": 1, "has_file_before": False}) == before
    assert (reverted.revision, reverted.has_file_before) == (3, True)
    assert concepts.read_file(service, OWNER, ref="teddy").data == data
    assert revert(service).model_copy(update={"revision": 2}) == after
    assert teddy(service).revision == 4


def test_a_revert_that_is_sent_twice_under_one_key_reverts_once(service: Service) -> None:
    first(service)
    retrain(service, **BETTER)
    assert revert(service, key="once").sha256 == OLD_SHA256
    answer = versions.revert(service, OWNER, ref="teddy", idempotency=Idempotency("once"))
    assert answer.replayed
    assert teddy(service).sha256 == OLD_SHA256


def test_without_a_file_before_there_is_nothing_to_revert_to(service: Service) -> None:
    first(service)
    with pytest.raises(Conflict) as caught:
        revert(service)
    assert caught.value.slug == "no-file-before"


def test_a_file_before_that_a_release_before_has_removed_is_not_gone_back_to(
    service: Service,
) -> None:
    old_job = first(service)
    retrain(service, **BETTER)
    service.blobs.delete(f"jobs/{old_job}/1/concept.safetensors")
    with pytest.raises(NotFound):
        revert(service)
    assert teddy(service).sha256 == NEW_SHA256


def test_the_file_before_is_kept_by_the_collector_and_the_one_before_that_goes(
    service: Service, clock: Clock
) -> None:
    job_ids = [first(service, **WEAKER), retrain(service, **WEAK).id]
    clock.tick(7200)
    assert collection.collect(service) == 0
    revert(service)
    clock.tick(7200)
    assert collection.collect(service) == 0
    revert(service)
    job_ids.append(retrain(service, **BETTER).id)
    files = [f"jobs/{job_id}/1/concept.safetensors" for job_id in job_ids]
    assert blob_keys(service).intersection(files) == set(files[1:])
    assert collection.collect(service) == 0
    assert revert(service).job_id == job_ids[1]


def test_deleting_a_concept_removes_the_file_before_as_well(service: Service) -> None:
    first(service, **WORSE)
    retrain(service, **BETTER)
    claimed = retrain(service, **WORSE)  # not better, so the file of BETTER stays
    service.blobs.put(keys.last_preview_key(claimed.id), b"png")
    again(service)
    concepts.delete(service, OWNER, ref="teddy")
    assert not blob_keys(service)
    with service.database.read() as session:
        open_jobs = session.scalars(
            select(JobRow.id).where(JobRow.status == JobStatus.QUEUED)
        ).all()
    assert open_jobs == []


def test_the_job_of_the_file_before_outlives_the_time_that_jobs_are_kept(
    make_service: Callable[..., Service], clock: Clock
) -> None:
    service = make_service(keep_jobs_days=20)
    register_base_model(service)
    deployment.check(service)
    old_job = first(service, **WORSE)
    retrain(service, **BETTER)
    with service.database.write() as session:  # now only the concept's row names the job
        session.get_one(JobRow, old_job).concept_id = None
    clock.tick(30 * DAY_SECONDS)
    assert retention.release(service) == (0, 0)
    assert revert(service).job_id == old_job


def test_the_file_before_counts_as_stored(service: Service) -> None:
    first(service, **WORSE)
    before = quota.stored_bytes(service, OWNER)
    retrain(service, **BETTER)
    new, old = teddy(service).bytes, revert(service).bytes
    assert new is not None and old is not None
    assert quota.stored_bytes(service, OWNER) == before + new


def test_a_request_that_waited_through_a_replacement_keeps_the_file_it_was_accepted_with(
    service: Service,
) -> None:
    def accepted() -> str:
        body = GenerateRequest(prompt="a photo of <teddy>")
        answer = generations.request(service, OWNER, body=body)
        claimed = claim(service, answer.body["job"]["id"])
        return str(claimed.payload["concepts"][0]["sha256"])

    def named() -> set[str]:
        concept_id = teddy(service).id
        return rows.named_hashes(service, [concept_id])[concept_id]

    first(service, **WORSE)
    old = accepted()
    retrain(service, **BETTER)
    new = accepted()
    assert (old, new) == (OLD_SHA256, NEW_SHA256)
    assert named() == {old, new}
    revert(service)
    assert named() == {old, new}

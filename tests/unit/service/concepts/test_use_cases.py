"""Concepts: one name per owner, lists, and deletion really deletes."""

import pytest

from service.concepts import use_cases as concepts
from service.database.tables import ConceptRow, JobRow, PictureRow
from service.errors import Conflict, NotFound, problem
from service.execution import leases, reconciler
from service.jobs import use_cases as jobs
from service.statuses import ConceptStatus, JobStatus
from service.wiring import Service
from tests.unit.service.concepts.created import count, create
from tests.unit.service.staging import (
    OWNER,
    STRANGER,
    Clock,
    blob_keys,
    claim,
    ready,
    submit,
    trained,
)


def test_a_concept_is_found_by_id_and_by_name_by_its_owner_alone(service: Service) -> None:
    concept_id = create(service).body["concept"]["id"]
    for ref in ("teddy", concept_id):
        assert concepts.get(service, OWNER, ref=ref).id == concept_id
        with pytest.raises(NotFound):
            concepts.get(service, STRANGER, ref=ref)
        with pytest.raises(NotFound):
            concepts.delete(service, STRANGER, ref=ref)
        with pytest.raises(NotFound):
            concepts.read_file(service, STRANGER, ref=ref)
    for ref in ("", "rex", "te\0ddy", "\ud800", "../x"):
        with pytest.raises(NotFound):
            concepts.get(service, OWNER, ref=ref)


def test_a_name_belongs_to_one_concept_of_each_owner(service: Service) -> None:
    create(service)
    before = blob_keys(service)
    with pytest.raises(Conflict, match="it is training") as caught:
        create(service)
    assert caught.value.slug == "name-taken"
    assert blob_keys(service) == before
    assert (count(service, ConceptRow), count(service, JobRow), count(service, PictureRow)) == (
        1,
        1,
        1,
    )
    submit(service, "teddy", owner_id=STRANGER)


def test_a_deleted_concept_frees_its_name(service: Service) -> None:
    ready(service)
    concepts.delete(service, OWNER, ref="teddy")
    assert create(service).body["concept"]["status"] == "training"


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_concept_that_never_became_ready_is_replaced_by_a_new_one_of_its_name(
    service: Service, end: str
) -> None:
    claimed = claim(service, submit(service))
    if end == "cancelled":
        jobs.cancel(service, OWNER, job_id=claimed.id)
    leases.fail(service, claimed, problem=problem("broken", "It broke."))
    old = concepts.get(service, OWNER, ref="teddy")
    assert old.status.value == end
    new = create(service).body["concept"]
    assert new["id"] != old.id
    assert not any(old.id in key for key in blob_keys(service))
    job = jobs.get(service, OWNER, job_id=claimed.id)
    assert (job.status.value, job.concept_id) == (end, None)


def test_deletion_removes_row_pictures_and_file(service: Service) -> None:
    claimed_id = ready(service)
    service.blobs.put(f"jobs/{claimed_id}/preview.png", b"png")
    assert len(blob_keys(service)) == 3
    concepts.delete(service, OWNER, ref="teddy")
    assert blob_keys(service) == set()
    assert (count(service, ConceptRow), count(service, PictureRow)) == (0, 0)
    assert jobs.get(service, OWNER, job_id=claimed_id).status is JobStatus.SUCCEEDED
    with pytest.raises(NotFound):
        concepts.delete(service, OWNER, ref="teddy")


def test_deleting_a_concept_cancels_its_training_first(service: Service, clock: Clock) -> None:
    queued = submit(service, "queued")
    running = claim(service, submit(service, "running"))
    concepts.delete(service, OWNER, ref="queued")
    concepts.delete(service, OWNER, ref="running")
    assert jobs.get(service, OWNER, job_id=queued).status is JobStatus.CANCELLED
    assert leases.heartbeat(service, running).lease is leases.Lease.CANCEL_REQUESTED
    assert not leases.finish_training(service, running, trained=trained(service, running))
    assert leases.cancelled(service, running)
    assert jobs.get(service, OWNER, job_id=running.id).status is JobStatus.CANCELLED
    assert (count(service, ConceptRow), blob_keys(service)) == (0, set())
    clock.tick(100)
    assert reconciler.reconcile(service).requeued == 0


def test_a_file_is_there_once_the_concept_is_ready(service: Service) -> None:
    claimed = claim(service, submit(service))
    with pytest.raises(Conflict, match="still being trained"):
        concepts.read_file(service, OWNER, ref="teddy")
    leases.finish_training(service, claimed, trained=trained(service, claimed))
    file = concepts.read_file(service, OWNER, ref="teddy")
    assert (file.name, file.sha256) == ("teddy", "5" * 64)


def test_concepts_are_listed_newest_first_and_by_status(service: Service) -> None:
    for name in ("a", "b", "c"):
        ready(service, name)
    submit(service, "d")
    page = concepts.list_page(service, OWNER, limit=3)
    assert [concept.name for concept in page.items] == ["d", "c", "b"]
    rest = concepts.list_page(service, OWNER, limit=3, cursor=page.next_cursor)
    assert ([concept.name for concept in rest.items], rest.next_cursor) == (["a"], None)
    training = concepts.list_page(service, OWNER, status=ConceptStatus.TRAINING).items
    assert [concept.name for concept in training] == ["d"]


def test_a_concept_as_json_has_exactly_the_fields_of_the_contract(service: Service) -> None:
    assert list(create(service).body["concept"]) == [
        "id",
        "name",
        "placeholder",
        "superclass",
        "description",
        "status",
        "usable",
        "reason",
        "base_model",
        "covariance_fingerprint",
        "bytes",
        "sha256",
        "mask_source",
        "training",
        "created_at",
        "ready_at",
        "job_id",
        "revision",
        "has_file_before",
        "verdict",
        "recommended_strength",
        "warning",
    ]

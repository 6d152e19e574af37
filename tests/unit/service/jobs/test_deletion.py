"""A finished job is deleted with everything of it; one that is needed yet is not."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service import deployment, quota
from service.blobs.local import LocalBlobs
from service.blobs.store import unavailable
from service.concepts import use_cases as concepts
from service.errors import Conflict, NotFound, Unavailable
from service.execution import leases
from service.garbage import collection
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.jobs import deletion
from service.jobs import use_cases as jobs
from service.wiring import Service
from tests.unit.service.images.walk import traces
from tests.unit.service.inspected import check_and_finish
from tests.unit.service.staging import (
    OWNER,
    STRANGER,
    Clock,
    at_once,
    blob_keys,
    claim,
    generated,
    ready,
    submit,
)


def queue(service: Service, **options: object) -> str:
    body = GenerateRequest(prompt="a boat", **options)  # type: ignore[arg-type]
    return str(generations.request(service, OWNER, body=body).body["job"]["id"])


def draw(service: Service, *, num_images: int = 1) -> str:
    claimed = claim(service, queue(service, num_images=num_images, attention_maps=True))
    assert leases.finish_generation(service, claimed, images=generated(service, claimed))
    return claimed.id


def refusal(service: Service, job_id: str) -> str:
    with pytest.raises(Conflict) as caught:
        deletion.delete(service, OWNER, job_id=job_id)
    return caught.value.slug


def test_a_finished_job_goes_with_its_images_and_leaves_no_trace(service: Service) -> None:
    other = draw(service)
    kept, kept_bytes = blob_keys(service), quota.stored_bytes(service, OWNER)
    job_id = draw(service, num_images=12)
    ids = [image.id for image in jobs.get(service, OWNER, job_id=job_id).images]
    service.blobs.put(f"jobs/{job_id}/pictures/0.png", b"an uploaded picture")
    with pytest.raises(NotFound):
        deletion.delete(service, STRANGER, job_id=job_id)
    deletion.delete(service, OWNER, job_id=job_id)
    assert traces(service, job_id, *ids) == []
    assert (blob_keys(service), quota.stored_bytes(service, OWNER)) == (kept, kept_bytes)
    assert [job.id for job in jobs.list_page(service, OWNER).items] == [other]
    with pytest.raises(NotFound):
        deletion.delete(service, OWNER, job_id=job_id)


def test_a_job_that_waits_or_runs_is_not_deleted(service: Service) -> None:
    job_id = queue(service)
    assert refusal(service, job_id) == "job-unfinished"
    claimed = claim(service, job_id)
    assert refusal(service, job_id) == "job-unfinished"
    jobs.cancel(service, OWNER, job_id=job_id)
    assert refusal(service, job_id) == "job-unfinished"
    leases.cancelled(service, claimed)
    deletion.delete(service, OWNER, job_id=job_id)
    assert traces(service, job_id) == []


def test_a_training_stays_while_its_concept_exists(service: Service) -> None:
    trained, failed = ready(service, "teddy"), submit(service, "rex")
    jobs.cancel(service, OWNER, job_id=failed)
    stored = blob_keys(service)
    for job_id in (trained, failed):
        assert refusal(service, job_id) == "job-of-a-concept"
    assert blob_keys(service) == stored
    for name, job_id in (("teddy", trained), ("rex", failed)):
        concepts.delete(service, OWNER, ref=name)
        deletion.delete(service, OWNER, job_id=job_id)
        assert traces(service, job_id) == []


def test_an_inspection_is_deleted_with_its_masks(service: Service) -> None:
    job_id = check_and_finish(service)
    assert blob_keys(service)
    deletion.delete(service, OWNER, job_id=job_id)
    assert traces(service, job_id) == []


def test_two_requests_at_once_delete_a_job_once(service: Service) -> None:
    job_id = draw(service)
    outcomes: list[str] = []

    def delete() -> None:
        try:
            deletion.delete(service, OWNER, job_id=job_id)
        except NotFound:
            outcomes.append("not found")
        else:
            outcomes.append("deleted")

    at_once([delete, delete])
    assert sorted(outcomes) == ["deleted", "not found"]
    assert traces(service, job_id) == []


class LosingBlobs(LocalBlobs):
    """A blob store that becomes unavailable after a number of deletions."""

    def __init__(self, folder: Path, *, left: int) -> None:
        super().__init__(folder)
        self.left = left

    def delete(self, key: str) -> None:
        self.left -= 1
        if self.left < 0:
            raise unavailable()
        super().delete(key)


def test_a_deletion_that_is_cut_short_leaves_what_the_collector_removes_and_goes_on_later(
    service: Service, clock: Clock
) -> None:
    clock.now = datetime.now(UTC)  # that of the files
    deployment.check(service)
    job_id = draw(service, num_images=16)
    folder = Path(service.settings.blobs_url.removeprefix("file:"))
    broken = dataclasses.replace(service, blobs=LosingBlobs(folder, left=16))
    with pytest.raises(Unavailable):
        deletion.delete(broken, OWNER, job_id=job_id)
    assert len(jobs.get(service, OWNER, job_id=job_id).images) == 6  # of 16: two times five went
    clock.tick(2 * 3600)
    assert collection.collect(service) > 0
    assert not service.notices
    deletion.delete(service, OWNER, job_id=job_id)
    assert traces(service, job_id) == []

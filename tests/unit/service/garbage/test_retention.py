"""Retention deletes what is older than the settings allow, rows first, and keeps what rows need."""

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from service import deployment
from service.blobs.local import LocalBlobs
from service.blobs.store import unavailable
from service.concepts import use_cases as concepts
from service.database.tables import ImageRow, JobEventRow, JobRow
from service.errors import NotFound, Unavailable, problem
from service.execution import leases
from service.garbage import collection, retention
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.jobs import use_cases as jobs
from service.wiring import Service
from tests.unit.service.staging import (
    OWNER,
    Clock,
    LosingDatabase,
    at_once,
    blob_keys,
    claim,
    generated,
    ready,
    register_base_model,
    submit,
)

DAY_SECONDS = 24 * 3600


@pytest.fixture
def service(make_service: Callable[..., Service], clock: Clock) -> Service:
    """Return a service that keeps images for 10 days and jobs for 20."""
    clock.now = datetime.now(UTC)
    service = make_service(keep_images_days=10, keep_jobs_days=20)
    register_base_model(service)
    deployment.check(service)
    return service


def draw(service: Service) -> str:
    """Generate two images with maps; return the id of their job."""
    body = GenerateRequest(prompt="a boat", num_images=2, attention_maps=True)
    job_id = generations.request(service, OWNER, body=body).body["job"]["id"]
    claimed = claim(service, job_id)
    assert leases.finish_generation(service, claimed, images=generated(service, claimed))
    return claimed.id


def fail(service: Service, name: str) -> str:
    """Let a training fail; return the id of its job."""
    claimed = claim(service, submit(service, name))
    assert leases.fail(service, claimed, problem=problem("internal", "It failed."))
    return claimed.id


def count(service: Service, table: type[ImageRow | JobRow | JobEventRow]) -> int:
    with service.database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_by_default_everything_is_kept_for_ever(
    make_service: Callable[..., Service], clock: Clock
) -> None:
    service = make_service()
    job_id = draw(service)
    clock.tick(10_000 * DAY_SECONDS)
    assert retention.release(service) == (0, 0)
    assert len(jobs.get(service, OWNER, job_id=job_id).images) == 2


def test_images_go_with_their_maps_when_their_time_is_over(service: Service, clock: Clock) -> None:
    old = draw(service)
    clock.tick(6 * DAY_SECONDS)
    young = draw(service)
    clock.tick(5 * DAY_SECONDS)
    assert retention.release(service) == (2, 0)
    assert jobs.get(service, OWNER, job_id=old).images == ()
    assert len(jobs.get(service, OWNER, job_id=young).images) == 2
    assert {key.split("/")[1] for key in blob_keys(service)} == {young}
    assert len(blob_keys(service)) == 2 * 3  # with a thumbnail and a map


def test_what_retention_releases_goes_with_its_row_and_counts_for_no_bound(
    service: Service, clock: Clock
) -> None:
    for _ in range(15):
        draw(service)
    clock.tick(11 * DAY_SECONDS)
    assert retention.release(service) == (30, 0)
    assert not blob_keys(service)
    assert collection.collect(service) == 0
    assert not service.notices


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


def test_a_store_that_goes_away_ends_the_pass_before_it_leaves_more_than_is_collected(
    service: Service, clock: Clock
) -> None:
    """If rows went on being deleted, their blobs would become more than one collection removes."""
    for _ in range(15):
        draw(service)
    folder = Path(service.settings.blobs_url.removeprefix("file:"))
    clock.tick(11 * DAY_SECONDS)
    with pytest.raises(Unavailable):
        retention.release(dataclasses.replace(service, blobs=LosingBlobs(folder, left=3)))
    assert 0 < count(service, ImageRow) < 30
    assert collection.collect(service) > 0
    assert not service.notices


def test_a_release_whose_answer_is_lost_leaves_no_more_than_is_collected(
    service: Service, clock: Clock
) -> None:
    for _ in range(15):
        draw(service)
    clock.tick(11 * DAY_SECONDS)
    with pytest.raises(Unavailable):
        retention.release(dataclasses.replace(service, database=LosingDatabase(service.database)))
    assert 0 < count(service, ImageRow) < 30
    assert collection.collect(service) > 0
    assert not service.notices


def test_a_finished_job_goes_when_neither_image_nor_concept_is_left(
    service: Service, clock: Clock
) -> None:
    drawn, deleted, failed = draw(service), ready(service, "deleted"), fail(service, "failed")
    concepts.delete(service, OWNER, ref="deleted")
    service.blobs.put(f"jobs/{deleted}/preview.png", b"left over")
    clock.tick(21 * DAY_SECONDS)
    assert retention.release(service) == (2, 2)
    for job_id in (drawn, deleted):
        with pytest.raises(NotFound):
            jobs.get(service, OWNER, job_id=job_id)
    assert jobs.get(service, OWNER, job_id=failed)  # its concept says that it failed
    assert f"jobs/{deleted}/preview.png" not in blob_keys(service)
    with service.database.read() as session:
        assert set(session.scalars(select(JobEventRow.job_id))) == {failed}


def test_a_job_from_which_something_is_left_is_never_deleted(
    make_service: Callable[..., Service], clock: Clock
) -> None:
    """Its row protects its images from the collector of the previous release."""
    clock.now = datetime.now(UTC)
    service = make_service(keep_jobs_days=1)
    register_base_model(service)
    kept = [draw(service), ready(service, "kept"), fail(service, "failed")]
    kept.append(submit(service, "waiting"))
    kept.append(claim(service, submit(service, "running")).id)
    before = blob_keys(service)
    clock.tick(1000 * DAY_SECONDS)
    assert retention.release(service) == (0, 0)
    assert collection.collect(service) == 0
    for job_id in kept:
        assert jobs.get(service, OWNER, job_id=job_id)
    assert blob_keys(service) == before


def test_a_job_that_a_concept_names_stays_though_it_has_forgotten_the_concept(
    service: Service, clock: Clock
) -> None:
    job_id = ready(service)
    with service.database.write() as session:
        session.execute(update(JobRow).values(concept_id=None))
    clock.tick(1000 * DAY_SECONDS)
    assert retention.release(service) == (0, 0)
    assert jobs.get(service, OWNER, job_id=job_id)


def test_the_database_refuses_to_delete_a_job_with_images(service: Service) -> None:
    job_id = draw(service)
    with pytest.raises(IntegrityError), service.database.write() as session:
        session.delete(session.get(JobRow, job_id))
    assert count(service, ImageRow) == 2


def test_processes_that_release_at_once_release_each_thing_once(
    service: Service, clock: Clock
) -> None:
    for _ in range(20):
        draw(service)
    clock.tick(21 * DAY_SECONDS)
    released: list[tuple[int, int]] = []
    at_once([lambda: released.append(retention.release(service))] * 4)
    released.append(retention.release(service))  # each skipped the rows that another was deleting
    assert [sum(counts) for counts in zip(*released, strict=True)] == [40, 20]
    assert not blob_keys(service)


def test_many_rows_are_released_in_bounded_turns(
    service: Service, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_ROWS_AT_ONCE", 3)
    for _ in range(5):
        draw(service)
    clock.tick(21 * DAY_SECONDS)
    turns = []
    assert retention.release(service, stopping=lambda: turns.append(1) or len(turns) > 2) == (6, 0)  # type: ignore[func-returns-value]
    assert retention.release(service) == (4, 5)

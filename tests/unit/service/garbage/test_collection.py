"""The collector removes the blobs that no row names, and no others."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, event, update

from service import deployment
from service.concepts import imports
from service.concepts import use_cases as concepts
from service.database.tables import ImageRow, JobRow, PictureRow
from service.execution import leases
from service.garbage import collection
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.jobs import use_cases as jobs
from service.wiring import Service
from tests.unit.service.staging import (
    OWNER,
    Clock,
    blob_keys,
    claim,
    core_concept,
    generated,
    ready,
    register_base_model,
    submit,
)


@pytest.fixture
def service(make_service: Callable[..., Service], clock: Clock) -> Service:
    # Blobs carry the machine's time, so the service's clock must not lie behind it.
    clock.now = datetime.now(UTC) + timedelta(minutes=5)
    service = make_service()
    deployment.check(service)
    return service


def draw(service: Service, **options: Any) -> str:
    """Generate an image; return the id of its job."""
    body = GenerateRequest(prompt="a boat", **options)
    job_id = generations.request(service, OWNER, body=body).body["job"]["id"]
    claimed = claim(service, job_id)
    assert leases.finish_generation(service, claimed, images=generated(service, claimed))
    return claimed.id


def test_what_a_row_names_stays(service: Service, clock: Clock) -> None:
    register_base_model(service)
    done = ready(service, "ready")
    service.blobs.put(f"jobs/{done}/preview.png", b"png")
    running = claim(service, submit(service, "running"))
    service.blobs.put(f"jobs/{running.id}/state.safetensors", b"state")
    imports.import_file(service, OWNER, data=core_concept("imported").to_bytes())
    drawn = draw(service, attention_maps=True)
    before = blob_keys(service)
    assert f"jobs/{drawn}/1/0.attention-0.png" in before
    clock.tick(7200)
    assert collection.collect(service) == 0
    assert blob_keys(service) == before


def test_a_blob_that_a_row_names_stays_whatever_job_or_folder_it_lies_under(
    service: Service, clock: Clock
) -> None:
    register_base_model(service)
    done = ready(service)
    imported = imports.import_file(service, OWNER, data=core_concept("imported").to_bytes())
    drawn = draw(service)
    moved = "jobs/job_of_another_name/1/0.png"
    service.blobs.put(moved, b"png")
    with service.database.write() as session:
        # The rows of these jobs are gone, but everything that they wrote is still there.
        session.execute(update(ImageRow).where(ImageRow.job_id == drawn).values(blob_key=moved))
        session.execute(delete(JobRow).where(JobRow.id == done))
        session.execute(
            update(PictureRow).values(mask_key=f"concepts/{imported.id}/mask-of-another.png")
        )
    service.blobs.put(f"concepts/{imported.id}/mask-of-another.png", b"png")
    service.blobs.delete(f"jobs/{drawn}/1/0.png")
    before = blob_keys(service)
    clock.tick(7200)
    assert collection.collect(service) == 0
    assert blob_keys(service) == before


def test_a_file_that_is_none_of_ours_stays(
    make_service: Callable[..., Service], tmp_path: Path, clock: Clock
) -> None:
    service = make_service(blobs_url=f"file:{tmp_path}/shared")
    deployment.check(service)
    theirs = {"lost+found/what", "jobs/Träume.txt", "backups/jobs/job_1/1/0.png"}
    for name in theirs:
        file = tmp_path / "shared" / name
        file.parent.mkdir(parents=True)
        file.write_bytes(b"theirs")
    clock.tick(7200)
    assert collection.collect(service) == 0
    assert blob_keys(service) == theirs


@pytest.mark.parametrize(("stored", "most"), [(0, 20), (209, 20), (210, 21), (20_000, 2000)])
def test_a_pass_removes_twenty_blobs_or_a_tenth_of_the_store(stored: int, most: int) -> None:
    assert collection.most_removed(stored) == most


def test_more_orphans_than_the_bound_all_stay_and_are_told_of(
    service: Service, clock: Clock
) -> None:
    for number in range(21):
        service.blobs.put(f"jobs/job_{number}/1/0.png", b"whose?")
    clock.tick(7200)
    assert collection.collect(service) == 0
    assert len(blob_keys(service)) == 21
    [notice] = service.notices.values()
    assert "21 of the 22 files" in notice
    service.blobs.delete("jobs/job_0/1/0.png")
    assert collection.collect(service) == 20
    assert not blob_keys(service)
    assert not service.notices


def test_what_a_deletion_releases_goes_at_once_and_counts_for_no_bound(service: Service) -> None:
    register_base_model(service)
    for number in range(25):
        ready(service, f"concept-{number}")
    assert len(blob_keys(service)) == 50
    for number in range(25):
        concepts.delete(service, OWNER, ref=f"concept-{number}")
    assert not blob_keys(service)


@pytest.mark.slow
def test_a_pass_asks_for_many_blobs_in_few_questions(service: Service, clock: Clock) -> None:
    register_base_model(service)
    for _ in range(100):
        draw(service)
    clock.tick(7200)
    asked: list[str] = []
    event.listen(
        service.database.engine,
        "before_cursor_execute",
        lambda *arguments: asked.append(arguments[2]),
    )
    assert collection.survey(service).stored == 1 + 100 * 2
    assert sum(statement.startswith("SELECT") for statement in asked) < 10


def test_a_pass_that_is_to_stop_removes_nothing(service: Service, clock: Clock) -> None:
    service.blobs.put("jobs/job_gone/1/0.png", b"orphan")
    clock.tick(7200)
    assert collection.collect(service, stopping=lambda: True) == 0
    assert collection.collect(service) == 1


def test_what_no_row_names_goes_after_an_hour(service: Service, clock: Clock) -> None:
    done = ready(service)
    wanted = blob_keys(service)
    job_id = submit(service, "cancelled")
    jobs.cancel(service, OWNER, job_id=job_id)
    concepts.delete(service, OWNER, ref="cancelled")
    for key in (
        "pictures/concept_gone/0.png",
        "concepts/concept_gone.safetensors",
        "jobs/job_gone/1/0.png",
        f"jobs/{job_id}/state.safetensors",
        f"jobs/{job_id}/preview.png",
        f"jobs/{done}/state.safetensors",
        f"jobs/{done}/7/concept.safetensors",
    ):
        service.blobs.put(key, b"orphan")
    assert collection.collect(service) == 0
    clock.tick(7200)
    assert collection.collect(service) == 7
    assert blob_keys(service) == wanted

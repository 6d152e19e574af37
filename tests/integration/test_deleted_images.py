"""A deleted image, and a deleted job, leave nothing in the store, whichever the store is."""

import dataclasses
from collections.abc import Iterator

import pytest

import migrations
from service import wiring
from service.blobs.store import Blobs
from service.execution import leases
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.images import use_cases as images
from service.jobs import deletion
from service.jobs import use_cases as jobs
from service.settings.environment import Settings
from service.wiring import Service
from tests.integration.test_blobs import blobs as blobs
from tests.integration.test_blobs import folder_blobs as folder_blobs
from tests.unit.service.images.walk import traces
from tests.unit.service.staging import OWNER, blob_keys, claim, generated


@pytest.fixture
def service(blobs: Blobs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    settings = Settings(
        database_url=f"sqlite:///{folder}/perfusion.db", blobs_url=f"file:{folder}/unused"
    )
    migrations.upgrade(settings.database_url)
    built = wiring.build(settings)
    yield dataclasses.replace(built, blobs=blobs)
    built.close()


def test_deleted_images_and_jobs_leave_nothing_in_any_store(service: Service) -> None:
    body = GenerateRequest(prompt="a boat", num_images=6, attention_maps=True)
    job_id = generations.request(service, OWNER, body=body).body["job"]["id"]
    claimed = claim(service, job_id)
    assert leases.finish_generation(service, claimed, images=generated(service, claimed))
    first = jobs.get(service, OWNER, job_id=job_id).images[0].id
    stored = blob_keys(service)
    assert len(stored) == 6 * 3  # PNG, thumbnail and one map

    images.delete(service, OWNER, image_id=first)
    assert traces(service, first, f"{job_id}/1/0.") == []
    assert blob_keys(service) == {key for key in stored if "/1/0." not in key}
    deletion.delete(service, OWNER, job_id=job_id)
    assert traces(service, job_id) == []
    assert blob_keys(service) == set()

"""Blobs that no row names are removed, and no others."""

from datetime import UTC, datetime, timedelta

import pytest

from service import collector, concepts, generations, jobs, leases
from service.generations import GenerateBody
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


@pytest.fixture(autouse=True)
def later(clock: Clock) -> None:
    """Blobs carry the machine's time: the service's must not lie behind it."""
    clock.now = datetime.now(UTC) + timedelta(minutes=5)


def test_what_a_row_names_stays(service: Service, clock: Clock) -> None:
    register_base_model(service)
    done = ready(service, "ready")
    service.blobs.put(f"jobs/{done}/preview.png", b"png")
    running = claim(service, submit(service, "running"))
    service.blobs.put(f"jobs/{running.id}/state.safetensors", b"state")
    concepts.import_file(service, OWNER, data=core_concept("imported").to_bytes())
    job_id = generations.request(
        service, OWNER, body=GenerateBody(prompt="a boat", attention_maps=True)
    ).body["job"]
    drawing = claim(service, job_id["id"])
    leases.finish_generation(service, drawing, images=generated(service, drawing))
    before = blob_keys(service)
    assert f"jobs/{drawing.id}/1/0.attention-0.png" in before
    clock.tick(7200)
    assert collector.collect(service) == 0
    assert blob_keys(service) == before


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
    assert collector.collect(service) == 0
    clock.tick(7200)
    assert collector.collect(service) == 7
    assert blob_keys(service) == wanted

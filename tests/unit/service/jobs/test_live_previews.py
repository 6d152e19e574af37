"""Asking for previews of a running generation."""

from base64 import b64encode

import pytest

from service.database.tables import JobRow
from service.errors import NotFound
from service.execution import checkpoints, leases
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.jobs import live_previews
from service.jobs.views import EventPreviews
from service.wiring import Service
from tests.unit.service.staging import (
    OWNER,
    STRANGER,
    Clock,
    blob_keys,
    claim,
    generated,
    submit,
)


def running(service: Service) -> leases.ClaimedJob:
    body = GenerateRequest(prompt="a photo of a dog")
    answer = generations.request(service, OWNER, body=body).body
    return claim(service, str(answer["job"]["id"]))


def watch(service: Service, claimed: leases.ClaimedJob) -> EventPreviews | None:
    return live_previews.watch(service, OWNER, job_id=claimed.id)


def url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"


def test_a_worker_learns_of_the_wish_for_as_long_as_somebody_follows(
    service: Service, clock: Clock
) -> None:
    claimed = running(service)
    assert not leases.heartbeat(service, claimed).wants_previews
    for _ in range(4):
        assert watch(service, claimed) is None
        clock.tick(5)
        assert leases.heartbeat(service, claimed).wants_previews
    clock.tick(6)
    assert not leases.heartbeat(service, claimed).wants_previews


def test_the_newest_preview_is_there_until_the_job_ends(service: Service) -> None:
    claimed = running(service)
    for data in (b"first", b"second"):
        assert checkpoints.save_live_previews(service, claimed, first=data, each=[data, None])
        told = EventPreviews(preview=url(data), previews=(url(data), None))
        assert watch(service, claimed) == told
    assert leases.finish_generation(service, claimed, images=generated(service, claimed))
    assert watch(service, claimed) is None
    assert not [key for key in blob_keys(service) if "preview" in key]


def test_a_stranger_learns_nothing_and_asks_for_nothing(service: Service) -> None:
    claimed = running(service)
    checkpoints.save_live_previews(service, claimed, first=b"jpeg", each=[])
    with pytest.raises(NotFound):
        live_previews.watch(service, STRANGER, job_id=claimed.id)
    assert not leases.heartbeat(service, claimed).wants_previews


def test_other_jobs_have_no_live_previews(service: Service) -> None:
    training = claim(service, submit(service))
    assert watch(service, training) is None
    with service.database.read() as session:
        assert session.get_one(JobRow, training.id).previews_wanted_at is None

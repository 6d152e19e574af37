"""The number of open requests is bounded exactly, and each request gives its slot back."""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from typing import Any

import httpx2
import pytest
from prometheus_client import Counter
from starlette.testclient import TestClient

from api import events
from api.access.auth_cache import KNOWN_SECONDS
from api.limits.concurrency import (
    MAX_STREAMS_PER_CALLER,
    MAX_WAITS_PER_CALLER,
    CallerLimit,
    ProcessLimit,
    limits,
)
from service import auth
from service.errors import TooManyRequests, Unavailable
from service.jobs import use_cases as jobs
from service.wiring import Service
from tests.unit.api.checks import refusal
from tests.unit.api.routes.test_jobs import open_streams, queue, real_server

Make = Callable[..., Any]


def limit(most: int, *, most_bytes: float = math.inf) -> CallerLimit:
    return CallerLimit(
        most=most,
        most_bytes=most_bytes,
        slug="too-many-streams",
        detail="Too many.",
        refused=Counter("x", "x", registry=None),
    )


def test_a_caller_holds_as_many_slots_as_allowed_and_another_holds_its_own() -> None:
    slots = limit(2)
    with slots.hold("a"), slots.hold("a"), slots.hold("b"):
        with pytest.raises(TooManyRequests) as refused, slots.hold("a"):
            pass
        assert refused.value.retry_after_seconds > 0
    with slots.hold("a"), slots.hold("a"):
        pass


def test_a_slot_is_given_back_when_its_request_fails() -> None:
    slots, space = limit(1), ProcessLimit(most=1, most_bytes=10)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), slots.hold("a"), space.hold(10):
            raise ZeroDivisionError


def test_a_callers_bodies_together_are_bounded_and_another_callers_are_its_own() -> None:
    slots = limit(4, most_bytes=10)
    with slots.hold("a", 6), slots.hold("b", 10):
        with pytest.raises(TooManyRequests), slots.hold("a", 5):
            pass
        with slots.hold("a", 4):
            pass
    with slots.hold("a", 10):
        pass


def test_one_owner_cannot_hold_the_whole_spool() -> None:
    refused = Counter("x", "x", registry=None)
    bounds = limits(spool_bytes=1024, max_body_bytes=256, refused=refused)
    with bounds.uploads.hold("a", 512), bounds.all_uploads.hold(512):
        with pytest.raises(TooManyRequests), bounds.uploads.hold("a", 1):
            pass
        with bounds.uploads.hold("b", 256), bounds.all_uploads.hold(256):
            pass


def test_all_callers_together_hold_a_bounded_number_of_slots_and_bytes() -> None:
    space = ProcessLimit(most=2, most_bytes=10)
    with space.hold(6):
        with pytest.raises(Unavailable), space.hold(5):
            pass
        with space.hold(4), pytest.raises(Unavailable), space.hold(0):
            pass
    with space.hold(10):
        pass


def test_a_burst_opens_as_many_streams_as_a_caller_may_have(service: Service) -> None:
    burst = 3 * MAX_STREAMS_PER_CALLER
    with real_server(service) as url, httpx2.Client(base_url=url, timeout=20) as client:
        job_id = str(client.post("/generate", json={"prompt": "a dog"}).json()["job"]["id"])
        ready = threading.Barrier(burst)

        def follow(_: int) -> int:
            with httpx2.Client(base_url=url, timeout=20) as mine:
                ready.wait()
                with mine.stream("GET", f"/jobs/{job_id}/events") as stream:
                    stream.read()  # until the job ends
                    return stream.status_code

        with ThreadPoolExecutor(burst) as pool:
            following = [pool.submit(follow, number) for number in range(burst)]
            # The job ends only after every refusal has been answered: a follower that comes later
            # than the end is served at once.
            refused = islice(as_completed(following, timeout=20), burst - MAX_STREAMS_PER_CALLER)
            assert {future.result() for future in refused} == {429}
            refusal(client.get(f"/jobs/{job_id}/events"), 429, "too-many-streams")
            jobs.cancel(service, "local", job_id=job_id)
            counted = [future.result() for future in following]
        assert counted.count(200) == MAX_STREAMS_PER_CALLER
        assert counted.count(429) == burst - MAX_STREAMS_PER_CALLER
        assert open_streams(client) == 0
        with client.stream("GET", f"/jobs/{job_id}/events") as stream:
            assert stream.status_code == 200


@pytest.mark.parametrize("left", ["the scope to read", "nothing"])
def test_a_stream_ends_within_seconds_of_the_end_of_its_key(
    service: Service, make_client: Make, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    monkeypatch.setattr(events, "RECHECK_SECONDS", 0)
    client: TestClient = make_client(service, key_required=True)
    key, view = auth.create_key(service, label="short")
    bearer = {"Authorization": f"Bearer {key}"}
    answer = client.post("/generate", json={"prompt": "a dog"}, headers=bearer)
    job_id = answer.json()["job"]["id"]
    read: list[str] = []
    reader = threading.Thread(
        target=lambda: read.append(client.get(f"/jobs/{job_id}/events", headers=bearer).text)
    )
    reader.start()
    reader.join(2 * KNOWN_SECONDS)
    assert reader.is_alive()
    if left == "nothing":
        auth.revoke_key(service, view.id)
    else:
        with service.database.write() as session:
            row = session.get(auth.ApiKeyRow, view.id)
            assert row is not None
            row.scopes = "generate"
    reader.join(10)
    gone = not reader.is_alive()
    jobs.cancel(service, view.owner_id, job_id=job_id)
    reader.join(10)
    assert gone
    assert read[0].count("event:") == 1


def test_a_stream_outlives_a_database_that_is_away_when_its_key_is_looked_at(
    service: Service, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from api.access.auth_cache import AuthCache
    from api.dependencies import may_read

    auth_cache = AuthCache(service)

    def away(*_: Any, **__: Any) -> None:
        raise Unavailable("database-unavailable", "Away.")

    monkeypatch.setattr(auth, "authenticate", away)
    assert may_read({"auth_cache": auth_cache, "key_required": True}, "Bearer sk_x")  # type: ignore[typeddict-item]


def test_only_so_many_of_a_callers_requests_wait_for_their_jobs_end(client: TestClient) -> None:
    waiting = {"Prefer": "wait=60"}
    with ThreadPoolExecutor(MAX_WAITS_PER_CALLER) as pool:
        answers = [
            pool.submit(client.post, "/generate", json={"prompt": "a"}, headers=waiting)
            for _ in range(MAX_WAITS_PER_CALLER)
        ]
        deadline = time.monotonic() + 20
        while len(listed(client)) < MAX_WAITS_PER_CALLER and time.monotonic() < deadline:
            time.sleep(0.05)
        one_more = client.post("/generate", json={"prompt": "a"}, headers=waiting)
        refusal(one_more, 429, "too-many-waits")
        assert int(one_more.headers["retry-after"]) > 0
        assert len(listed(client)) == MAX_WAITS_PER_CALLER  # the refused request made no job
        assert client.post("/generate", json={"prompt": "a"}).status_code == 202
        for job_id in listed(client):
            client.post(f"/jobs/{job_id}/cancel")
        assert {answer.result().status_code for answer in answers} == {200}
    again = client.post("/generate", json={"prompt": "a"}, headers={"Prefer": "wait=1"})
    assert again.status_code == 202


def listed(client: TestClient) -> list[str]:
    return [job["id"] for job in client.get("/jobs?limit=100").json()["items"]]


def test_a_stream_that_is_refused_leaves_the_limit_as_it_was(client: TestClient) -> None:
    job_id = queue(client)
    for _ in range(2 * MAX_STREAMS_PER_CALLER):
        refusal(client.get("/jobs/nothing/events"), 404)
    client.post(f"/jobs/{job_id}/cancel")
    assert client.get(f"/jobs/{job_id}/events").status_code == 200

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import uvicorn
from starlette.concurrency import run_in_threadpool
from starlette.testclient import TestClient

from api import events
from api.app import create_app
from service.execution import checkpoints, leases
from service.execution.leases import ClaimedJob
from service.jobs import use_cases as jobs
from service.jobs.views import JobView, ProgressView
from service.statuses import Phase
from service.wiring import Service
from tests.unit.api.checks import pointers, refusal
from tests.unit.api.routes.test_generate import finish
from tests.unit.service import staging


def queue(client: TestClient, **body: Any) -> str:
    answer = client.post("/generate", json={"prompt": "a dog", **body})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job"]["id"])


def report(service: Service, claimed: ClaimedJob, step: int) -> None:
    progress = ProgressView(
        step=step, total_steps=50, seconds_per_step=0.5, eta_seconds=(50 - step) * 0.5
    )
    leases.heartbeat(service, claimed, progress=progress, phase=Phase.SAMPLING)


def events_of(text: str) -> list[dict[str, Any]]:
    """Return the name, id and data of every event of a stream."""
    events = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.splitlines() if not line.startswith(":")
        )
        if fields:
            events.append({**fields, "data": json.loads(fields["data"])})
    return events


def test_jobs_are_listed_by_kind_and_status(client: TestClient, service: Service) -> None:
    first, second = queue(client), queue(client)
    training = staging.submit(service, "rex", owner_id="local")
    finish(service, first)

    def listed(**query: Any) -> list[str]:
        answer = client.get("/jobs", params=query)
        assert answer.status_code == 200
        return [job["id"] for job in answer.json()["items"]]

    assert listed() == [training, second, first]
    assert listed(kind="train") == [training]
    assert listed(status="succeeded") == [first]
    assert listed(status="queued", kind="generate") == [second]
    assert listed(limit=1) == [training]
    assert pointers(refusal(client.get("/jobs?kind=x&status=y"), 422)) == {"/kind", "/status"}


def test_progress_is_told(client: TestClient, service: Service) -> None:
    job_id = queue(client)
    report(service, staging.claim(service, job_id), 10)
    job = client.get(f"/jobs/{job_id}").json()
    assert job["status"] == "running"
    assert job["progress"] == {
        "step": 10,
        "total_steps": 50,
        "seconds_per_step": 0.5,
        "eta_seconds": 20.0,
        "phase": "sampling",
    }
    assert job["queue_position"] is None
    assert job["started_at"].endswith("Z")


def test_a_queued_job_is_cancelled_at_once(client: TestClient) -> None:
    job_id = queue(client)
    answer = client.post(f"/jobs/{job_id}/cancel")
    assert answer.status_code == 202
    assert answer.json()["status"] == "cancelled"


def test_a_running_job_is_asked_to_stop(client: TestClient, service: Service) -> None:
    job_id = queue(client)
    claimed = staging.claim(service, job_id)
    assert client.post(f"/jobs/{job_id}/cancel").status_code == 202
    assert leases.heartbeat(service, claimed).lease is leases.Lease.CANCEL_REQUESTED


def test_a_training_that_has_learned_something_can_be_finished_early(
    client: TestClient, service: Service
) -> None:
    job_id = staging.submit(service, "rex", owner_id="local")
    refusal(client.post(f"/jobs/{job_id}/finish"), 409, "nothing-learned")
    report(service, staging.claim(service, job_id), 3)
    answer = client.post(f"/jobs/{job_id}/finish")
    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    refusal(client.post(f"/jobs/{queue(client)}/finish"), 409, "not-a-training")


def test_a_finished_job_cannot_be_cancelled(client: TestClient, service: Service) -> None:
    job_id = queue(client)
    finish(service, job_id)
    refusal(client.post(f"/jobs/{job_id}/cancel"), 409)


@pytest.mark.parametrize("job_id", ["nothing", "job_" + "0" * 32, "%00", "%ff", "a" * 5000, "..."])
def test_what_is_no_job_is_not_found(refusing: TestClient, job_id: str) -> None:
    refusal(refusing.get(f"/jobs/{job_id}"), 404)
    refusal(refusing.post(f"/jobs/{job_id}/cancel"), 404)
    refusal(refusing.post(f"/jobs/{job_id}/finish"), 404)
    refusal(refusing.get(f"/jobs/{job_id}/events"), 404)
    refusal(refusing.get(f"/jobs/{job_id}/preview"), 404)
    refusal(refusing.get(f"/images/{job_id}"), 404)
    refusal(refusing.get(f"/concepts/{job_id}"), 404)
    refusal(refusing.delete(f"/concepts/{job_id}"), 404)


def test_an_image_is_sent_once_and_kept_for_ever(client: TestClient, service: Service) -> None:
    job_id = queue(client)
    finish(service, job_id)
    (image,) = client.get(f"/jobs/{job_id}").json()["images"]
    answer = client.get(image["url"])
    assert answer.content.startswith(b"\x89PNG")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"] == f'inline; filename="{image["id"]}.png"'
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    tag = {"If-None-Match": answer.headers["etag"]}
    assert client.get(image["url"], headers=tag).status_code == 304


def test_the_preview_of_a_training_is_shown(client: TestClient, service: Service) -> None:
    job_id = staging.submit(service, "rex", owner_id="local")
    refusal(client.get(f"/jobs/{job_id}/preview"), 404)
    service.blobs.put(f"jobs/{job_id}/preview.png", staging.encoded(staging.picture()))
    answer = client.get(f"/jobs/{job_id}/preview")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["cache-control"] == "private, no-cache"
    seen = {"If-None-Match": answer.headers["etag"]}
    assert client.get(f"/jobs/{job_id}/preview", headers=seen).status_code == 304
    service.blobs.put(f"jobs/{job_id}/preview.png", staging.encoded(staging.picture(seed=2)))
    assert client.get(f"/jobs/{job_id}/preview", headers=seen).status_code == 200


def in_background(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize("previews", [True, False])
def test_an_event_carries_a_new_preview_once_and_only_if_asked_for(
    client: TestClient, service: Service, previews: bool
) -> None:
    job_id = queue(client)
    claimed = staging.claim(service, job_id)
    checkpoints.save_live_previews(service, claimed, first=b"jpeg", each=[b"small", None])

    def work() -> None:
        for step in range(1, 8):
            time.sleep(0.5)
            report(service, claimed, step)
        wanted = leases.heartbeat(service, claimed).wants_previews
        leases.finish_generation(service, claimed, images=staging.generated(service, claimed))
        assert wanted == previews

    worker = in_background(work)
    answer = client.get(f"/jobs/{job_id}/events", params={"previews": previews})
    worker.join()
    told = [event["data"].get("preview") for event in events_of(answer.text)]
    assert len(told) >= 3
    assert told[0] == ("data:image/jpeg;base64,anBlZw==" if previews else None)
    assert set(told[1:]) == {None}
    small = [event["data"].get("previews") for event in events_of(answer.text)]
    assert small[0] == (["data:image/jpeg;base64,c21hbGw=", None] if previews else None)
    assert small[1:] == [None] * (len(told) - 1)


def test_a_job_is_followed_to_its_end(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = queue(client)

    def work() -> Iterator[None]:
        claimed = staging.claim(service, job_id)
        report(service, claimed, 25)
        yield
        images = staging.generated(service, claimed)
        leases.finish_generation(service, claimed, images=images)
        yield

    working = work()

    def read_after_the_next_state(*owner: Any, job_id: str) -> JobView:
        next(working)
        return jobs.get(*owner, job_id=job_id)

    monkeypatch.setattr(events, "jobs", SimpleNamespace(get=read_after_the_next_state))
    answer = client.get(f"/jobs/{job_id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    told = events_of(answer.text)
    assert [event["event"] for event in told] == ["progress", "progress", "succeeded"]
    assert [event["data"]["progress"]["step"] for event in told[:2]] == [0, 25]
    ids = [int(event["id"]) for event in told]
    assert ids == sorted(set(ids))
    assert told[-1]["data"] == client.get(f"/jobs/{job_id}").json()


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_the_last_event_is_named_by_the_jobs_end(
    client: TestClient, service: Service, end: str
) -> None:
    job_id = queue(client)
    if end == "failed":
        claimed = staging.claim(service, job_id)
        leases.fail(service, claimed, problem={"type": "/problems/x", "title": "X", "detail": "."})
    else:
        jobs.cancel(service, "local", job_id=job_id)
    (event,) = events_of(client.get(f"/jobs/{job_id}/events").text)
    assert event["event"] == end
    assert event["data"]["status"] == end


def test_a_stream_resumes_after_the_last_event_that_was_seen(
    client: TestClient, service: Service
) -> None:
    job_id = queue(client)
    seen = str(jobs.get(service, "local", job_id=job_id).version)
    finish(service, job_id)
    stream = f"/jobs/{job_id}/events"
    (event,) = events_of(client.get(stream, headers={"Last-Event-ID": seen}).text)
    assert event["event"] == "succeeded"
    nothing_more = client.get(stream, headers={"Last-Event-ID": event["id"]})
    assert (nothing_more.status_code, nothing_more.content) == (204, b"")
    for nonsense in ("x", "-1", "9" * 30, ""):
        again = client.get(stream, headers={"Last-Event-ID": nonsense})
        assert [each["event"] for each in events_of(again.text)] == ["succeeded"]


def test_a_resumed_stream_does_not_begin_with_what_was_seen(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = queue(client)
    seen = str(jobs.get(service, "local", job_id=job_id).version)

    async def finish_meanwhile(_: float) -> None:
        await run_in_threadpool(finish, service, job_id)

    monkeypatch.setattr(events, "anyio", SimpleNamespace(sleep=finish_meanwhile))
    answer = client.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": seen})
    assert [event["event"] for event in events_of(answer.text)] == ["succeeded"]


@contextmanager
def real_server(service: Service) -> Iterator[str]:
    """Serve on a socket, because a TestClient returns a stream only once it has ended."""
    config = uvicorn.Config(
        create_app(service, embedded=False), port=0, log_config=None, timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    thread = in_background(server.run)
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
    assert not thread.is_alive()


def open_streams(client: httpx2.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    (line,) = [line for line in lines if line.startswith("perfusion_event_streams ")]
    return float(line.split()[1])


def test_events_arrive_as_they_happen_and_the_stream_ends_with_its_reader(
    service: Service,
) -> None:
    with real_server(service) as url, httpx2.Client(base_url=url, timeout=10) as client:
        job_id = str(client.post("/generate", json={"prompt": "a dog"}).json()["job"]["id"])
        with client.stream("GET", f"/jobs/{job_id}/events") as stream:
            lines = stream.iter_lines()
            assert next(line for line in lines if line.startswith("event")) == "event: progress"
            report(service, staging.claim(service, job_id), 7)
            data = next(json.loads(line[6:]) for line in lines if line.startswith("data: {"))
            while data["status"] == "queued":
                data = next(json.loads(line[6:]) for line in lines if line.startswith("data: {"))
            assert data["status"] == "running"
            assert open_streams(client) == 1
        deadline = time.monotonic() + 5
        while open_streams(client) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert open_streams(client) == 0


def test_a_body_without_a_length_is_bounded_too(service: Service) -> None:
    def endless() -> Iterator[bytes]:
        yield b'{"prompt": "'
        for _ in range(64):
            yield b"x" * 65_536

    headers = {"content-type": "application/json"}
    with real_server(service) as url, httpx2.Client(base_url=url, timeout=10) as client:
        answer = client.post("/generate", content=endless(), headers=headers)
        refusal(answer, 413, "body-too-large")
        assert client.get("/healthz").status_code == 200

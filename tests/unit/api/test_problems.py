import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx2 as httpx
import pytest
from starlette.testclient import TestClient
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from api.metrics import Metrics
from service import workers
from service.blobs.keys import DEPLOYMENT_KEY
from service.garbage import collection
from service.jobs import use_cases as jobs
from service.statuses import LoadingPhase, LoadingState
from service.wiring import Service
from tests.unit.api.checks import refusal
from tests.unit.service import staging

SECRET = "the secret of the crash"


def test_an_address_without_a_route_is_a_problem(client: TestClient) -> None:
    for path in (
        "/nothing",
        "/jobs/",
        "/web/nothing.js",
        "/web/../app.py",
        "/%00",
        "/concepts//file",
    ):
        refusal(client.get(path), 404)


def test_a_method_that_a_route_does_not_know_is_a_problem(client: TestClient) -> None:
    answer = client.put("/jobs")
    refusal(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET"
    assert client.put("/concepts/x").headers["allow"] == "GET, DELETE, PATCH"
    refusal(client.post("/"), 405)
    refusal(client.delete("/web/app.js"), 405)


def test_a_crash_tells_its_id_and_nothing_else(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any, **__: Any) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(jobs, "get", crash)
    with capture_logs(processors=[merge_contextvars]) as logged:
        answer = client.get("/jobs/x", headers={"X-Request-Id": "find-me"})
    problem = refusal(answer, 500, "internal")
    assert problem["request_id"] == "find-me"
    assert "RuntimeError" not in answer.text
    assert SECRET not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    (line,) = [line for line in logged if line["event"] == "request.crashed"]
    assert line["exc_info"] is True  # only the log holds the trace
    assert line["request_id"] == "find-me"


def test_a_request_id_is_taken_if_it_is_harmless_and_else_made(client: TestClient) -> None:
    taken = client.get("/healthz", headers={"X-Request-Id": "abc-1.2_3"})
    assert taken.headers["x-request-id"] == "abc-1.2_3"
    for bad in ("", "x" * 129, "with space", "<script>", "line\tbreak"):
        made = client.get("/healthz", headers={"X-Request-Id": bad}).headers["x-request-id"]
        assert made != bad
        assert len(made) == 32


def test_a_log_line_names_the_request_and_nothing_that_was_written_by_the_caller(
    client: TestClient,
) -> None:
    with capture_logs(processors=[merge_contextvars]) as logged:
        client.get("/jobs/%0a%1b[31mforged?secret=1", headers={"X-Request-Id": "abc"})
        client.post("/generate", json={"prompt": "a secret"})
    first, second = [line for line in logged if line["event"] == "request"]
    assert first["path"] == "/jobs/%0a%1b[31mforged"
    assert (first["request_id"], first["status"]) == ("abc", 422)
    assert first["problem"] == "invalid"
    assert second["status"] == 202
    assert "secret" not in str(logged)


def test_every_answer_carries_the_security_headers(client: TestClient) -> None:
    for path in ("/", "/docs", "/healthz", "/jobs", "/nothing", "/openapi.json", "/web/app.js"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-request-id"]
        assert "server" not in headers
    assert client.get("/jobs").headers["cache-control"] == "no-store"
    assert client.get("/").headers["cache-control"] == "no-cache"


def test_a_body_over_the_limit_is_refused_with_a_length_and_without(
    make_service: Callable[..., Service], make_client: Callable[..., TestClient]
) -> None:
    client = make_client(make_service(max_body_bytes=100_000))

    def pieces() -> Iterator[bytes]:
        for _ in range(30):
            yield b"x" * 10_000

    form = {"content-type": "multipart/form-data; boundary=b"}
    for path in ("/concepts", "/concepts/import"):
        for content in (b"x" * 100_001, pieces()):
            refusal(client.post(path, content=content, headers=form), 413, "body-too-large")
    json_type = {"content-type": "application/json"}
    for content in (b"x" * 100_001, pieces()):
        refusal(client.post("/generate", content=content, headers=json_type), 413, "body-too-large")


def test_json_is_bounded_more_tightly_than_uploads(client: TestClient) -> None:
    body = b'{"prompt": "' + b"x" * 1024**2 + b'"}'
    answer = client.post("/generate", content=body, headers={"content-type": "application/json"})
    refusal(answer, 413, "body-too-large")


def test_ready_names_what_is_missing(client: TestClient) -> None:
    answer = client.get("/readyz")
    problem = refusal(answer, 503, "not-ready")
    assert problem["detail"] == "Not ready. Missing: worker."
    assert answer.headers["retry-after"] == "5"
    assert client.get("/healthz").json() == {"status": "ok"}


def test_ready_tells_how_far_a_worker_is_or_why_it_cannot_work(
    client: TestClient, service: Service
) -> None:
    half = LoadingState(
        phase=LoadingPhase.FETCHING,
        detail="The base model is being fetched: 2.1 of 4.3 GB.",
        progress=0.5,
    )
    for worker_id in ("w1", "w2"):
        workers.seen_loading(service, worker_id, state=half)
    problem = refusal(client.get("/readyz"), 503, "not-ready")
    assert problem["detail"] == f"Not ready. Missing: worker. {half.detail}"
    assert problem["workers"] == [{**half.to_json(), "id": each} for each in ("w1", "w2")]
    workers.gone(service, "w2")
    workers.seen(service, "w1", queues=["generate"], device="cpu")
    assert client.get("/readyz").status_code == 200


def test_ready_warns_of_an_evaluator_that_could_not_be_loaded(
    client: TestClient, service: Service
) -> None:
    workers.seen(service, "w", queues=["generate"], device="cpu")
    staging.register_base_model(service, info={"warnings": ["Concepts are not judged."]})
    assert client.get("/readyz").json()["warnings"] == ["Concepts are not judged."]


def test_ready_names_a_database_a_queue_and_blobs_that_are_away(
    make_service: Callable[..., Service], make_client: Callable[..., TestClient], tmp_path: Any
) -> None:
    service = make_service(queue_url="redis://127.0.0.1:1")
    client = make_client(service)
    service.database.engine.dispose()
    for file in tmp_path.rglob("perfusion.db*"):
        file.unlink()
    problem = refusal(client.get("/readyz"), 503, "not-ready")
    assert "queue" in problem["detail"]
    assert "worker" in problem["detail"]


def test_ready_tells_of_a_collection_that_removed_nothing(
    client: TestClient, service: Service
) -> None:
    """It stops no request, so the operator gets a warning instead of a 503."""
    workers.seen(service, "w", queues=["generate"], device="cpu")
    quiet = client.get("/readyz")
    assert (quiet.status_code, quiet.json()["warnings"]) == (200, [])
    for number in range(21):
        service.blobs.put(f"jobs/job_{number}/1/0.png", b"whose?")
    assert collection.collect(service, grace=timedelta(seconds=-60)) == 0
    answer = client.get("/readyz")
    assert answer.status_code == 200
    [warning] = answer.json()["warnings"]
    assert "21 of the 22 files" in warning
    assert "perfusion blobs collect --all" in warning


def test_ready_names_a_store_of_another_deployment(client: TestClient, service: Service) -> None:
    workers.seen(service, "w", queues=["generate"], device="cpu")
    assert client.get("/readyz").status_code == 200
    service.blobs.put(DEPLOYMENT_KEY, b"deployment_of_another")
    problem = refusal(client.get("/readyz"), 503, "not-ready")
    assert problem["detail"] == "Not ready. Missing: deployment."


def test_metrics_count_requests_by_route_and_jobs_by_status(client: TestClient) -> None:
    client.post("/generate", json={"prompt": "a dog"})
    client.get("/jobs/nothing")
    client.get("/nowhere/at/all")
    text = client.get("/metrics").text
    assert 'perfusion_jobs{kind="generate",status="queued"} 1.0' in text
    assert 'perfusion_http_requests_total{method="GET",route="/jobs/{id}",status="404"} 1.0' in text
    assert 'route="unmatched",status="404"' in text
    assert "nowhere" not in text


def test_metrics_count_jobs_that_ended_once_a_minute_and_the_others_each_time(
    client: TestClient, service: Service
) -> None:
    now = [0.0]
    metrics = Metrics(service, clock=lambda: now[0])

    def count(status: str) -> float:
        text = metrics.render().decode()
        found = re.search(rf'perfusion_jobs{{kind="generate",status="{status}"}} (\S+)', text)
        return float(found[1]) if found else 0.0

    first, second = (
        client.post("/generate", json={"prompt": "a dog"}).json()["job"]["id"] for _ in range(2)
    )
    client.post(f"/jobs/{first}/cancel")
    assert (count("queued"), count("cancelled")) == (1, 1)
    client.post(f"/jobs/{second}/cancel")
    now[0] = 59.0
    assert (count("queued"), count("cancelled")) == (0, 1)
    now[0] = 60.0
    assert (count("queued"), count("cancelled")) == (0, 2)


def test_the_page_is_served_with_its_files(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    script = client.get("/web/app.js")
    assert script.status_code == 200
    assert "javascript" in script.headers["content-type"]
    assert script.headers["cache-control"] == "no-cache"
    tag = {"If-None-Match": script.headers["etag"]}
    assert client.get("/web/app.js", headers=tag).status_code == 304


def test_the_pages_text_is_compressed_for_those_who_take_it_and_pictures_and_answers_are_not(
    client: TestClient,
) -> None:
    def sent(path: str, accepted: str = "gzip") -> httpx.Response:
        return client.get(path, headers={"Accept-Encoding": accepted})

    script = sent("/web/create/room.js")
    assert script.headers["content-encoding"] == "gzip"
    assert "accept-encoding" in script.headers["vary"].lower()
    plain = sent("/web/create/room.js", "identity")
    assert "content-encoding" not in plain.headers
    assert script.content == plain.content
    assert int(script.headers["content-length"]) < len(plain.content) / 2
    tag = {"If-None-Match": script.headers["etag"], "Accept-Encoding": "gzip"}
    assert client.get("/web/create/room.js", headers=tag).status_code == 304
    for path in ("/web/toys/rex-0.webp", "/openapi.json", "/jobs"):
        assert "content-encoding" not in sent(path).headers

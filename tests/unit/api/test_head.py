"""HEAD is answered wherever GET is."""

import pytest
from fastapi.testclient import TestClient

from service.wiring import Service
from tests.unit.api.routes.test_generate import finish
from tests.unit.api.routes.test_jobs import queue

VARYING = {"x-request-id", "date"}


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/healthz", "/jobs", "/jobs/nothing", "/web/styles/base.css", "IMAGE"]
)
def test_head_has_the_status_and_headers_of_get_and_no_body(
    client: TestClient, service: Service, path: str
) -> None:
    job_id = queue(client)
    finish(service, job_id)
    (image,) = client.get(f"/jobs/{job_id}").json()["images"]
    path = image["url"] if path == "IMAGE" else path
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    headers = [{k: v for k, v in a.headers.items() if k not in VARYING} for a in (head, get)]
    assert headers[0] == headers[1]


def test_head_is_refused_where_get_is(client: TestClient) -> None:
    assert client.head("/generate").status_code == client.get("/generate").status_code == 405


def test_the_head_of_a_stream_ends_at_once(client: TestClient, service: Service) -> None:
    job_id = queue(client)
    finish(service, job_id)
    head = client.head(f"/jobs/{job_id}/events")
    assert head.status_code == 200
    assert head.headers["content-type"].startswith("text/event-stream")

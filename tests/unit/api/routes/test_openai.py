import base64
import threading
from collections.abc import Callable
from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from service.execution import leases
from service.jobs import use_cases as jobs
from service.statuses import JobKind
from service.wiring import Service
from tests.unit.api.checks import openai_refusal, refusal
from tests.unit.api.routes.test_generate import finish_next, queued_jobs
from tests.unit.service import staging

pytestmark = pytest.mark.timeout(60)
URL = "/v1/images/generations"
IGNORED = {
    "quality": "hd", "style": "vivid", "user": "someone", "safety_identifier": "x",
    "moderation": "low", "complexity": "high", "output_compression": 50, "input_fidelity": "high",
}  # fmt: skip
WITHOUT_EFFECT = {
    "model": None, "n": None, "size": "auto", "response_format": None, "output_format": "png",
    "background": "opaque", "stream": False, "partial_images": 0,
}  # fmt: skip


def ask(client: TestClient, service: Service, **asked: Any) -> Response:
    """Ask for images that a worker finishes."""
    worker = finish_next(service)
    answer = client.post(URL, json={"prompt": "a <teddy>", **asked})
    worker.join()
    return answer


def test_images_come_as_links_or_in_the_answer_or_as_both(
    client: TestClient, service: Service, teddy: str
) -> None:
    for wanted, keys in (
        ("url", {"url", "seed"}),
        ("b64_json", {"b64_json", "seed"}),
        (None, {"url", "b64_json", "seed"}),
    ):
        answer = ask(client, service, n=2, seed=3, response_format=wanted)
        assert answer.status_code == 200, answer.text
        job = client.get(answer.headers["location"]).json()
        body = answer.json()
        assert [image["seed"] for image in body["data"]] == [3, 4]
        for shown, image in zip(body["data"], job["images"], strict=True):
            assert set(shown) == keys
            png = client.get(image["url"]).content
            if "url" in keys:
                assert shown["url"].startswith("http://127.0.0.1/images/")
                assert client.get(shown["url"]).content == png
            if "b64_json" in keys:
                assert base64.b64decode(shown["b64_json"]) == png
        first = job["images"][0]
        assert body["size"] == f"{first['width']}x{first['height']}"


def test_a_request_is_translated_and_fields_without_a_meaning_are_ignored(
    client: TestClient, service: Service, teddy: str
) -> None:
    worker = claimed_payload(service)
    asked = {"prompt": f"a <{teddy}:0.6>", "n": 2, "size": "64x72", "seed": 9, **IGNORED}
    assert client.post(URL, json=asked).status_code == 200
    payload = worker()
    config = payload["config"]
    assert (config["num_images"], config["width"], config["height"]) == (2, 64, 72)
    assert (config["seed"], payload["prompt"]) == (9, f"a <{teddy}:0.6>")
    worker = claimed_payload(service)
    assert client.post(URL, json={"prompt": f"a <{teddy}>", **WITHOUT_EFFECT}).status_code == 200
    assert set(worker()["config"]) == {"seed"}


def claimed_payload(service: Service) -> Callable[[], dict[str, Any]]:
    """Finish the next job in a thread; return a function that waits for its payload."""
    found: list[dict[str, Any]] = []

    def work() -> None:
        while not (waiting := queued_jobs(service)):
            threading.Event().wait(0.02)
        claimed = staging.claim(service, waiting[0])
        found.append(claimed.payload)
        images = staging.generated(service, claimed)
        assert leases.finish_generation(service, claimed, images=images)

    thread = threading.Thread(target=work)
    thread.start()

    def payload() -> dict[str, Any]:
        thread.join()
        return found[0]

    return payload


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("stream", True, "stream"),
        ("partial_images", 2, "partial_images"),
        ("output_format", "webp", "output_format"),
        ("background", "transparent", "background"),
        ("size", "large", "size"),
        ("size", "0x64", "size"),
        ("size", "65x64", "size"),
        ("size", "99999x64", "size"),
        ("n", 0, "n"),
        ("n", "2", "n"),
        ("seed", -1, "seed"),
        ("response_format", "file", "response_format"),
        ("prompt", "", "prompt"),
        ("prompt", "a <rexx>", "prompt"),
        ("colour", "red", "colour"),
    ],
)
def test_a_wrong_field_is_refused_by_its_name_in_the_form_of_openai(
    refusing: TestClient, field: str, value: object, param: str
) -> None:
    answer = refusing.post(URL, json={"prompt": "a <teddy>", field: value})
    error = openai_refusal(answer, 422)
    assert error["param"] == param
    assert error["message"].startswith(f"{param}: ")
    assert error["type"] == "invalid_request_error"


def test_every_refusal_under_v1_has_the_form_of_openai(
    make_service: Callable[..., Service], make_client: Callable[..., TestClient]
) -> None:
    client = make_client(make_service(requests_per_minute=3), key_required=True)
    openai_refusal(client.get("/v1/chat/completions"), 404, "no_such_route")
    answer = client.get(URL)
    openai_refusal(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"
    large = {"content": b"x" * 2_000_000, "headers": {"content-type": "application/json"}}
    openai_refusal(client.post(URL, **large), 413, "body_too_large")  # type: ignore[arg-type]
    answer = client.post(URL, json={"prompt": "a boat"})
    assert openai_refusal(answer, 401, "invalid_api_key")["type"] == "authentication_error"
    for _ in range(3):
        answer = client.post(URL, json={"prompt": "a boat"})
    assert openai_refusal(answer, 429, "rate_limit_exceeded")["type"] == "rate_limit_error"
    assert int(answer.headers["retry-after"]) > 0
    refusal(client.get("/v2"), 404)


def test_a_body_that_is_no_json_is_refused_in_the_form_of_openai(client: TestClient) -> None:
    as_json = {"content-type": "application/json"}
    openai_refusal(client.post(URL, content="{", headers=as_json), 400, "unreadable")
    openai_refusal(client.post(URL, content="x=1"), 415, "unsupported_media")


def test_until_a_base_model_is_there_no_model_is_listed(client: TestClient) -> None:
    error = openai_refusal(client.get("/v1/models"), 503, "no_base_model")
    assert error["type"] == "server_error"


def test_a_job_that_takes_too_long_goes_on_and_is_named(
    make_service: Callable[..., Service], make_client: Callable[..., TestClient]
) -> None:
    service = make_service(openai_wait_seconds=1)
    client = make_client(service)
    answer = client.post(URL, json={"prompt": "a boat"})
    error = openai_refusal(answer, 504, "job_not_finished")
    (job_id,) = queued_jobs(service)
    assert job_id in error["message"]
    assert answer.headers["location"] == f"/jobs/{job_id}"
    # Otherwise the client would ask for the same images again, twice.
    assert answer.headers["x-should-retry"] == "false"


def test_a_job_that_fails_or_is_cancelled_is_an_error(
    client: TestClient, service: Service, teddy: str
) -> None:
    def fail(job_id: str) -> None:
        claimed = staging.claim(service, job_id)
        problem = {"type": "/problems/diverged", "title": "Diverged", "detail": "Not finite."}
        assert leases.fail(service, claimed, problem=problem)

    def cancel(job_id: str) -> None:
        jobs.cancel(service, "local", job_id=job_id)

    for end, status, code in ((fail, 500, "diverged"), (cancel, 409, "job_cancelled")):

        def work(end: Callable[[str], None] = end) -> None:
            while not (found := queued_jobs(service)):
                threading.Event().wait(0.02)
            end(found[0])

        thread = threading.Thread(target=work)
        thread.start()
        answer = client.post(URL, json={"prompt": f"a <{teddy}>"})
        thread.join()
        openai_refusal(answer, status, code)
        assert answer.headers["x-should-retry"] == "false"
        assert client.get(answer.headers["location"]).status_code == 200


def test_the_same_idempotency_key_gives_the_same_images(
    client: TestClient, service: Service, teddy: str
) -> None:
    worker = finish_next(service)
    headers = {"Idempotency-Key": "once"}
    body = {"prompt": f"a <{teddy}>", "response_format": "b64_json"}
    first = client.post(URL, json=body, headers=headers)
    worker.join()
    again = client.post(URL, json=body, headers=headers)
    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()
    assert len(jobs.list_page(service, "local", kind=JobKind.GENERATE).items) == 1

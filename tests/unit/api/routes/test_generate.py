import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from starlette.testclient import TestClient

from api.events import wait_seconds
from service.errors import problem
from service.execution import leases
from service.jobs import use_cases as jobs
from service.jobs.views import JobView
from service.wiring import Service
from tests.unit.api.checks import pointers, refusal
from tests.unit.service import staging


def finish(service: Service, job_id: str) -> None:
    """Finish a job as a worker does."""
    claimed = staging.claim(service, job_id)
    images = staging.generated(service, claimed)
    assert leases.finish_generation(service, claimed, images=images)


def finish_next(service: Service) -> threading.Thread:
    """Start a thread that finishes the next queued job; return the thread."""

    def work() -> None:
        while not (found := queued_jobs(service)):
            time.sleep(0.02)
        finish(service, found[0])

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def queued_jobs(service: Service) -> list[str]:
    from service.jobs import use_cases as jobs
    from service.statuses import JobStatus

    page = jobs.list_page(service, "local", status=JobStatus.QUEUED)
    return [job.id for job in page.items]


def test_a_prompt_is_accepted_and_becomes_a_job(client: TestClient, teddy: str) -> None:
    body = {"prompt": f"a photo of <{teddy}:0.6> at night", "num_images": 3, "seed": 2**32 - 1}
    answer = client.post("/generate", json=body)
    assert answer.status_code == 202, answer.text
    job = answer.json()["job"]
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert (job["kind"], job["status"], job["images"]) == ("generate", "queued", [])
    assert client.get(f"/jobs/{job['id']}").json() == job


def test_every_option_is_accepted(client: TestClient, teddy: str, service: Service) -> None:
    body = {
        "prompt": f"a <{teddy}>",
        "negative_prompt": "blurry",
        "concepts": [{"name": teddy, "beta": 0.7, "tau": 0.2}],
        "locking": "global",
        "gates": "published",
        "num_images": 2,
        "seed": 5,
        "num_inference_steps": 20,
        "guidance_scale": 5,
        "width": 64,
        "height": 72,
        "scheduler": "dpmpp_2m",
    }
    answer = client.post("/generate", json=body)
    assert answer.status_code == 202, answer.text
    claimed = staging.claim(service, answer.json()["job"]["id"])
    config = claimed.payload["config"]
    for option in ("locking", "gates", "num_inference_steps", "width", "height", "scheduler"):
        assert config[option] == body[option]
    assert (config["seed"], config["num_images"]) == (5, 2)
    assert claimed.payload["concepts"][0]["beta"] == 0.7


WRONG: list[tuple[str, Any, str]] = [
    ("num_images", 0, "/num_images"),
    ("num_images", 17, "/num_images"),
    ("num_images", True, "/num_images"),
    ("num_images", "2", "/num_images"),
    ("seed", -1, "/seed"),
    ("seed", 10**40, "/seed"),
    ("seed", 2**32, "/seed"),
    ("seed", 1.5, "/seed"),
    ("seed", float("nan"), "/seed"),
    ("width", False, "/width"),
    ("width", 65, "/width"),
    ("height", 10**9, "/height"),
    ("guidance_scale", float("nan"), "/guidance_scale"),
    ("guidance_scale", float("inf"), "/guidance_scale"),
    ("num_inference_steps", 100_000, "/num_inference_steps"),
    ("scheduler", "magic", "/scheduler"),
    ("locking", "none", "/locking"),
    ("gates", "open", "/gates"),
    ("prompt", "", "/prompt"),
    ("prompt", "   ", "/prompt"),
    ("prompt", 7, "/prompt"),
    ("prompt", "half \ud800 a pair", "/prompt"),
    ("prompt", "nul \0 here", "/prompt"),
    ("prompt", "x" * 2001, "/prompt"),
    ("prompt", "<teddy:0>", "/prompt"),
    ("prompt", "<teddy:1>", "/prompt"),
    ("prompt", "<teddy:-1>", "/prompt"),
    ("prompt", "<teddy:nan>", "/prompt"),
    ("prompt", "<teddy:0.3> and <teddy:0.4>", "/prompt"),
    ("negative_prompt", "nul \0 here", "/negative_prompt"),
    ("negative_prompt", None, "/negative_prompt"),
    ("concepts", {"name": "teddy"}, "/concepts"),
    ("concepts", [{"name": "teddy", "strength": 0}], "/concepts/0/strength"),
    ("concepts", [{"name": "teddy", "strength": 1}], "/concepts/0/strength"),
    ("concepts", [{"name": "teddy", "strength": -1}], "/concepts/0/strength"),
    ("concepts", [{"name": "teddy", "strength": float("nan")}], "/concepts/0/strength"),
    ("concepts", [{"name": "teddy", "strength": 0.5, "beta": 0.5}], "/concepts/0/beta"),
    ("concepts", [{"name": "teddy", "strength": 0.5, "tau": 0.5}], "/concepts/0/tau"),
    ("concepts", [{"name": "teddy", "tau": 0}], "/concepts/0/tau"),
    ("concepts", [{"name": "teddy", "colour": 1}], "/concepts/0/colour"),
    ("concepts", [{"strength": 0.5}], "/concepts/0"),
    ("concepts", [{"name": "other"}], "/concepts/0/name"),
    ("colour", "red", "/colour"),
    ("a/b~c", 1, "/a~1b~0c"),
]


@pytest.mark.parametrize(("field", "value", "pointer"), WRONG)
def test_a_wrong_field_is_refused_with_its_pointer(
    refusing: TestClient, field: str, value: Any, pointer: str
) -> None:
    # json.dumps writes NaN, Infinity and lone surrogates, as a careless client does.
    body = json.dumps({"prompt": "a <teddy>", field: value})
    answer = refusing.post("/generate", content=body, headers={"content-type": "application/json"})
    assert pointers(refusal(answer, 422)) == {pointer}


def test_a_placeholder_that_names_no_concept_is_refused_with_the_nearest(
    client: TestClient, teddy: str
) -> None:
    answer = client.post("/generate", json={"prompt": "a <tedy> and a <zebra>"})
    problem = refusal(answer, 422, "unknown-placeholder")
    assert "<teddy>" in problem["errors"][0]["detail"]
    assert len(problem["errors"]) == 2


def test_a_concept_that_is_still_training_is_a_conflict(
    client: TestClient, service: Service
) -> None:
    staging.submit(service, "rex", owner_id="local")
    refusal(client.post("/generate", json={"prompt": "a <rex>"}), 409)


def test_another_owners_concept_is_unknown(client: TestClient, service: Service) -> None:
    staging.ready(service, "hers", owner_id="somebody-else")
    problem = refusal(client.post("/generate", json={"prompt": "a <hers>"}), 422)
    assert problem["type"] == "/problems/unknown-placeholder"


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        ("{", "application/json", 400),
        ("", "application/json", 422),
        ("[]", "application/json", 422),
        ("null", "application/json", 422),
        (b"\xff\xfe", "application/json", 400),
        ("[" * 100_000, "application/json", 400),
        ('{"seed": 1' + "0" * 5000 + "}", "application/json", 400),
        ('{"prompt": "x"}', "text/plain", 415),
        ('{"prompt": "x"}', "application/x-www-form-urlencoded", 415),
        ('{"prompt": "x"}', "", 415),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(
    refusing: TestClient, body: Any, media_type: str, status: int
) -> None:
    headers = {"content-type": media_type} if media_type else {}
    refusal(refusing.post("/generate", content=body, headers=headers), status)


def test_the_same_idempotency_key_gives_the_first_answer_again(client: TestClient) -> None:
    key = {"Idempotency-Key": "k" * 255}
    body = {"prompt": "a dog"}
    first = client.post("/generate", json=body, headers=key)
    again = client.post("/generate", json=body, headers=key)
    assert again.status_code == 202
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    other = client.post("/generate", json={"prompt": "a cat"}, headers=key)
    refusal(other, 422, "idempotency-key-reused")
    assert len(client.get("/jobs").json()["items"]) == 1


@pytest.mark.parametrize("key", ["", "k" * 256, "with space", "\N{SNOWMAN}".encode()])
def test_a_key_that_no_header_can_carry_is_refused(refusing: TestClient, key: Any) -> None:
    answer = refusing.post("/generate", json={"prompt": "a"}, headers={"Idempotency-Key": key})
    assert pointers(refusal(answer, 422)) == {"/Idempotency-Key"}


def test_the_time_to_wait_is_read_off_the_header() -> None:
    for prefer in ("wait=20", "respond-async, Wait = 20 ; x", 'wait="20"', "wait=20, wait=3"):
        assert wait_seconds(prefer) == 20
    assert wait_seconds("wait=3600") == 60
    assert wait_seconds(None) is None


def test_a_caller_that_prefers_to_wait_gets_the_finished_job(
    client: TestClient, service: Service
) -> None:
    worker = finish_next(service)
    answer = client.post(
        "/generate", json={"prompt": "a dog", "num_images": 2}, headers={"Prefer": "wait=20"}
    )
    worker.join()
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=20"
    job = answer.json()["job"]
    assert job["status"] == "succeeded"
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    first, second = job["images"]
    assert second["seed"] == first["seed"] + 1
    assert client.get(first["url"]).headers["content-type"] == "image/png"


def test_a_caller_that_waits_in_vain_gets_the_accepted_job(client: TestClient) -> None:
    answer = client.post("/generate", json={"prompt": "a dog"}, headers={"Prefer": "wait=1"})
    assert answer.status_code == 202
    assert answer.json()["job"]["status"] == "queued"


def test_a_database_that_goes_away_while_a_caller_waits_does_not_deny_the_accepted_job(
    client: TestClient, service: Service
) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(
            client.post, "/generate", json={"prompt": "a dog"}, headers={"Prefer": "wait=2"}
        )
        while not jobs.list_page(service, "local").items:
            time.sleep(0.01)
        with without_jobs(service):
            answer = waiting.result()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/jobs/{answer.json()['job']['id']}"


@contextmanager
def without_jobs(service: Service) -> Iterator[None]:
    """Rename the table of jobs for a while, so that every query of jobs fails."""
    for old, new in (("jobs", "away"), ("away", "jobs")):
        with service.database.write() as session:
            session.execute(text("PRAGMA legacy_alter_table = ON"))
            session.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))
        if new == "away":
            yield


@pytest.mark.parametrize(
    "prefer", ["wait=0", "wait=-1", "wait=soon", "wait=", "wait", "handling=x"]
)
def test_a_preference_that_means_nothing_is_ignored(client: TestClient, prefer: str) -> None:
    answer = client.post("/generate", json={"prompt": "a dog"}, headers={"Prefer": prefer})
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    "prompt", "negative_prompt", "concepts", "locking", "num_images", "seed",
    "num_inference_steps", "guidance_scale", "width", "height", "scheduler",
]  # fmt: skip
texts = st.text(st.characters(codec=None), max_size=40)  # including lone surrogates and NUL
bodies = st.dictionaries(
    st.sampled_from(FIELDS) | st.text(max_size=5), json_values | texts, max_size=4
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(body=bodies, prompt=texts | st.just("a <teddy:0.5>") | st.just("<teddy>"))
def test_no_body_whatever_crashes_the_server(
    client: TestClient, teddy: str, body: dict[str, Any], prompt: str
) -> None:
    content = json.dumps({"prompt": prompt, **body})
    answer = client.post("/generate", content=content, headers={"content-type": "application/json"})
    if answer.status_code == 429:  # a hundred accepted jobs are queued
        refusal(answer, 429)
    elif answer.status_code != 202:
        assert answer.status_code in (400, 422)
        refusal(answer, answer.status_code)


def test_an_image_has_its_maps_where_they_were_asked_for(
    client: TestClient, service: Service, teddy: str
) -> None:
    body = {"prompt": f"a <{teddy}>", "attention_maps": True}
    job_id = client.post("/generate", json=body).json()["job"]["id"]
    finish(service, job_id)
    (image,) = client.get(f"/jobs/{job_id}").json()["images"]
    assert [attention_map["word"] for attention_map in image["attention_maps"]] == ["a", "<teddy>"]
    answer = client.get(image["attention_maps"][1]["url"])
    assert answer.headers["content-type"] == "image/png"
    assert "immutable" in answer.headers["cache-control"]
    again = client.get(
        image["attention_maps"][1]["url"], headers={"If-None-Match": answer.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")
    refusal(client.get(f"/images/{image['id']}/attention/2"), 404, "attention-map-not-found")
    refusal(client.get(f"/images/{image['id']}/attention/x"), 422)
    refusal(client.get("/images/image_0/attention/0"), 404, "image-not-found")


def test_asking_for_maps_is_another_request_to_an_idempotency_key(
    client: TestClient, teddy: str
) -> None:
    body, headers = {"prompt": f"a <{teddy}>"}, {"Idempotency-Key": "k"}
    assert client.post("/generate", json=body, headers=headers).status_code == 202
    again = client.post("/generate", json={**body, "attention_maps": False}, headers=headers)
    assert again.headers["idempotency-replayed"] == "true"
    other = client.post("/generate", json={**body, "attention_maps": True}, headers=headers)
    refusal(other, 422, "idempotency-key-reused")
    refusal(client.post("/generate", json={**body, "attention_maps": "yes"}), 422)
    refusal(client.post("/generate", json={**body, "attention_maps": None}), 422)


def test_warnings_of_a_job_are_told(client: TestClient, service: Service) -> None:
    job_id = client.post("/generate", json={"prompt": "a boat"}).json()["job"]["id"]
    warning = {
        **problem("concepts-may-blend", "They are close."),
        "concepts": [{"id": "concept_1", "name": "rex"}, {"id": "concept_2", "name": "ted"}],
    }
    leases.warn(service, staging.claim(service, job_id), warnings=[warning])
    job = client.get(f"/jobs/{job_id}").json()
    assert job["warnings"] == [warning]
    JobView.model_validate(job)

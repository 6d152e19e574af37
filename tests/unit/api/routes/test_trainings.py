"""POST /concepts/{ref}/train and /revert over HTTP."""

from typing import Any

from starlette.testclient import TestClient

from service.concepts.views import ConceptAccepted
from service.execution import leases
from service.wiring import Service
from tests.unit.api.checks import pointers, refusal
from tests.unit.service import staging


def finish(service: Service, job_id: str) -> None:
    claimed = staging.claim(service, job_id)
    trained = staging.trained(service, claimed)
    assert leases.finish_training(service, claimed, trained=trained)


def test_a_concept_is_taught_again_and_goes_back(
    client: TestClient, service: Service, teddy: str
) -> None:
    before = client.get("/concepts/teddy").json()
    options = {"max_train_steps": 12, "replace": "always"}
    answer = client.post("/concepts/teddy/train", json=options, headers={"Idempotency-Key": "a"})
    assert answer.status_code == 202, answer.text
    ConceptAccepted.model_validate(answer.json(), extra="forbid")
    job = answer.json()["job"]
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert (job["kind"], job["progress"]["total_steps"]) == ("train", 12)
    assert answer.json()["concept"] == client.get("/concepts/teddy").json() == before
    repeated = client.post("/concepts/teddy/train", json=options, headers={"Idempotency-Key": "a"})
    assert repeated.json() == answer.json()
    assert repeated.headers["idempotency-replayed"] == "true"
    assert [item["id"] for item in client.get("/jobs?status=queued").json()["items"]] == [job["id"]]

    finish(service, job["id"])
    after = client.get("/concepts/teddy").json()
    assert (after["revision"], after["has_file_before"], after["job_id"]) == (2, True, job["id"])
    again: Any = {"headers": {"Idempotency-Key": "b"}}
    reverted = client.post("/concepts/teddy/revert", **again)
    assert reverted.status_code == 200, reverted.text
    assert reverted.json() == client.get("/concepts/teddy").json()
    assert reverted.json()["job_id"] == before["job_id"]
    assert client.post("/concepts/teddy/revert", **again).json() == reverted.json()
    assert client.get("/concepts/teddy").json()["revision"] == 3


def test_one_click_needs_no_body(client: TestClient, teddy: str) -> None:
    answer = client.post("/concepts/teddy/train")
    assert answer.status_code == 202, answer.text
    assert answer.json()["job"]["progress"]["total_steps"] == 150  # the base model's default


def test_a_whole_number_with_a_point_is_an_integer(client: TestClient, teddy: str) -> None:
    answer = client.post("/concepts/teddy/train", json={"max_train_steps": 12.0})
    assert answer.json()["job"]["progress"]["total_steps"] == 12
    generated = client.post("/generate", json={"prompt": "a dog", "num_inference_steps": 3.0})
    assert generated.json()["job"]["progress"]["total_steps"] == 3


def test_wrong_options_are_named_and_change_nothing(refusing: TestClient) -> None:
    for body, pointer in (
        ({"max_train_steps": 0}, "/max_train_steps"),
        ({"replace": "sometimes"}, "/replace"),
        ({"replaces": "always"}, "/replaces"),
    ):
        answer = refusing.post("/concepts/teddy/train", json=body)
        assert pointers(refusal(answer, 422, "invalid")) == {pointer}


def test_what_is_not_there_or_cannot_be_now_is_said(client: TestClient, teddy: str) -> None:
    for action in ("train", "revert"):
        refusal(client.post(f"/concepts/nobody/{action}"), 404, "concept-not-found")
    refusal(client.post("/concepts/teddy/revert"), 409, "no-file-before")
    assert client.post("/concepts/teddy/train").status_code == 202
    refusal(client.post("/concepts/teddy/train"), 409, "concept-in-training")
    refusal(client.post("/concepts/teddy/revert"), 409, "concept-in-training")
    file = {"file": ("a", staging.core_concept("imported").to_bytes())}
    assert client.post("/concepts/import", files=file).status_code == 201
    refusal(client.post("/concepts/imported/train"), 409, "no-pictures")

import pickle

import numpy as np
from httpx2 import Response
from safetensors.numpy import save as save_tensors
from starlette.testclient import TestClient

from perfusion_core.shared_parts import SharedParts
from service.wiring import Service
from tests.unit.api.checks import pointers, refusal
from tests.unit.service import staging


def send_file(client: TestClient, data: bytes, name: str | None = None, **fields: str) -> Response:
    fields |= {"name": name} if name else {}
    return client.post("/concepts/import", files={"file": ("c.safetensors", data)}, data=fields)


def test_a_concept_file_is_imported_and_ready_at_once(client: TestClient, teddy: str) -> None:
    file = client.get(f"/concepts/{teddy}/file").content
    answer = send_file(client, file, "teddy-2")
    assert answer.status_code == 201, answer.text
    concept = answer.json()
    assert answer.headers["location"] == f"/concepts/{concept['id']}"
    assert (concept["name"], concept["status"], concept["job_id"]) == ("teddy-2", "ready", None)
    refusal(send_file(client, file), 409)


def test_a_file_of_another_base_model_is_a_conflict_that_names_both(
    client: TestClient, teddy: str
) -> None:
    data = staging.core_concept("alien", base_model_fingerprint="base-2").to_bytes()
    problem = refusal(send_file(client, data), 409)
    assert "base-1" in problem["detail"]
    assert "base-2" in problem["detail"]


PARTS = SharedParts("t" * 32, (32, 32))


def test_a_file_of_a_sibling_is_offered_and_then_imported_with_a_job_that_judges_it(
    client: TestClient, service: Service
) -> None:
    staging.register_base_model(service, info={"shared_parts": PARTS.to_json()})
    core = staging.core_concept("alien", base_model_fingerprint="base-2", shared_parts=PARTS)
    for fields in ({}, {"adapt": "false"}):
        problem = refusal(send_file(client, core.to_bytes(), **fields), 409, "base-model-mismatch")
        assert pointers(problem) == {"/adapt"}
    answer = send_file(client, core.to_bytes(), adapt="true")
    assert answer.status_code == 202, answer.text
    concept, job = answer.json()["concept"], answer.json()["job"]
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert (concept["status"], concept["usable"], concept["verdict"]) == ("ready", True, None)
    assert "base-2" in concept["warning"]
    assert (job["kind"], job["status"], job["concept_id"]) == ("judge", "queued", concept["id"])
    assert [told["type"] for told in job["warnings"]] == ["/problems/adapted"]
    assert client.get("/jobs?kind=judge").json()["items"] == [job]
    assert client.get("/jobs?kind=train").json()["items"] == []


def test_adapt_is_true_or_false(client: TestClient, teddy: str) -> None:
    data = staging.core_concept("other").to_bytes()
    problem = refusal(send_file(client, data, adapt="yes"), 422)
    assert pointers(problem) == {"/adapt"}
    assert send_file(client, data, adapt="true").status_code == 201


def test_files_that_are_no_concept_are_refused(client: TestClient, teddy: str) -> None:
    good = staging.core_concept("good").to_bytes()
    not_finite = np.full(64, np.nan, dtype=np.float32)
    broken = {
        "pickle": pickle.dumps({"o_v": [1.0]}),
        "truncated": good[:-20],
        "corrupted": good[:40] + b"\xff\xff" + good[42:],
        "foreign": save_tensors({"lora": np.zeros(4, np.float32)}),
        "empty": b"",
        "not finite": staging.core_concept("bad", o_v=not_finite).to_bytes(),
    }
    for kind, data in broken.items():
        problem = refusal(send_file(client, data), 422)
        assert pointers(problem) == {"/file"}, kind
    refusal(send_file(client, b"x" * (3 * 1024**2)), 413)
    assert [item["name"] for item in client.get("/concepts").json()["items"]] == [teddy]


def test_an_import_needs_its_file_and_a_base_model(client: TestClient) -> None:
    nothing = client.post("/concepts/import", files={"name": (None, "x")})
    assert pointers(refusal(nothing, 422)) == {"/file"}
    answer = send_file(client, staging.core_concept().to_bytes())
    refusal(answer, 503)
    assert int(answer.headers["retry-after"]) > 0

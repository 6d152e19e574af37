"""OpenAPI agrees with the contract and with the answers, and suits generated clients."""

import json
import re
from typing import Any

import pytest
from pydantic import BaseModel
from starlette.testclient import TestClient

from api.routes.health import Health
from service.base_models import BaseModelInfo
from service.concepts.views import (
    BaseModelRef,
    ConceptView,
    CurvePointView,
    CurveView,
    SimilaritiesView,
    VerdictView,
)
from service.jobs.views import AttentionMapView, ImageView, JobView, ProgressView
from service.pages import Page
from service.wiring import Service
from tests.unit.api.checks import operations
from tests.unit.api.routes.test_generate import finish

# Every path of the contract, and the statuses that it promises.
CONTRACT = {
    ("post", "/concepts"): {202, 400, 401, 403, 409, 413, 415, 422, 429, 503},
    ("get", "/concepts"): {200, 401, 403, 422, 429, 503},
    ("get", "/concepts/{ref}"): {200, 401, 403, 404, 429, 503},
    ("delete", "/concepts/{ref}"): {204, 401, 403, 404, 429, 503},
    ("patch", "/concepts/{ref}"): {200, 400, 401, 403, 404, 409, 413, 415, 422, 429, 503},
    ("get", "/concepts/{ref}/pictures"): {200, 401, 403, 404, 429, 503},
    ("post", "/concepts/{ref}/train"): {202, 400, 401, 403, 404, 409, 422, 429, 503, 507},
    ("post", "/concepts/{ref}/revert"): {200, 401, 403, 404, 409, 422, 429, 503},
    ("get", "/concepts/{ref}/file"): {200, 304, 401, 403, 404, 409, 429, 503},
    ("get", "/concepts/{ref}/curve"): {200, 401, 403, 404, 409, 429, 503},
    ("get", "/concepts/{ref}/curve/{k}"): {200, 304, 401, 403, 404, 409, 422, 429, 503},
    ("post", "/concepts/import"): {201, 202, 400, 401, 403, 409, 413, 415, 422, 429, 503},
    ("post", "/pictures/check"): {202, 400, 401, 403, 408, 413, 415, 422, 429, 503, 507},
    ("get", "/jobs/{id}/pictures/{k}/mask"): {200, 304, 401, 403, 404, 429, 503},
    ("post", "/generate"): {200, 202, 400, 401, 403, 409, 413, 415, 422, 429, 503},
    ("get", "/jobs"): {200, 401, 403, 422, 429, 503},
    ("get", "/jobs/{id}"): {200, 401, 403, 404, 429, 503},
    ("post", "/jobs/{id}/cancel"): {202, 401, 403, 404, 409, 429, 503},
    ("post", "/jobs/{id}/finish"): {202, 401, 403, 404, 409, 429, 503},
    ("get", "/jobs/{id}/events"): {200, 204, 401, 403, 404, 429, 503},
    ("get", "/images"): {200, 401, 403, 422, 429, 503},
    ("get", "/images/{id}.json"): {200, 401, 403, 404, 429, 503},
    ("delete", "/images/{id}"): {204, 401, 403, 404, 429, 503},
    ("delete", "/jobs/{id}"): {204, 401, 403, 404, 409, 429, 503},
    ("get", "/images/{id}"): {200, 304, 401, 403, 404, 429, 503},
    ("get", "/images/{id}/attention/{k}"): {200, 304, 401, 403, 404, 429, 503},
    ("post", "/v1/images/generations"): {
        200,
        400,
        401,
        403,
        404,
        409,
        413,
        415,
        422,
        429,
        503,
        504,
    },
    ("post", "/v1/images/edits"): {200, 400, 401, 403, 404, 409, 413, 415, 422, 429, 503, 504, 507},
    ("get", "/v1/models"): {200, 401, 403, 429, 503},
    ("get", "/v1/models/{name}"): {200, 401, 403, 404, 429, 503},
    ("get", "/models"): {200, 401, 403, 429, 503},
    ("get", "/base-model"): {200, 401, 403, 429, 503},
    ("get", "/healthz"): {200},
    ("get", "/readyz"): {200, 503},
    ("get", "/metrics"): {200, 401},
}
VERBS = {
    "cancel", "check", "create", "delete", "edit", "export", "find", "finish", "follow", "generate",
    "get", "import", "list", "revert", "train", "update",
}  # fmt: skip
IMAGE = {
    *("id", "url", "signed_url", "thumbnail_url", "signed_thumbnail_url"),
    *("seed", "width", "height", "cell", "attention_maps", "presence"),
}
SHAPES: dict[str, set[str]] = {
    "Concept": {
        "id", "name", "placeholder", "superclass", "status", "usable", "reason", "base_model",
        "covariance_fingerprint", "bytes", "sha256", "mask_source", "training", "created_at",
        "ready_at", "job_id", "revision", "has_file_before", "verdict", "recommended_strength",
        "warning", "description",
    },
    "ConceptPicture": {"url", "mask_url", "width", "height", "signed_url", "signed_mask_url"},
    "Verdict": {"quality", "reasons"},
    "Curve": {
        "concept_id", "evaluator", "evaluator_fingerprint", "prompts", "superclass", "ceiling",
        "text_floor", "points", "recommended_strength", "verdict",
    },
    "CurvePoint": {"strength", "beta", "image_similarity", "text_similarity", "thumbnail_url"},
    "Similarities": {"image_similarity", "text_similarity"},
    "Job": {
        "id", "kind", "status", "progress", "queue_position", "attempt", "concept_id", "images",
        "pictures", "error", "warnings", "request", "created_at", "started_at", "finished_at",
    },
    "InspectedPicture": {
        "index", "findings", "crop", "mask_source", "mask_url", "signed_mask_url",
    },
    "Finding": {"code", "detail", "remedy"},
    "Progress": {"step", "total_steps", "seconds_per_step", "eta_seconds", "phase"},
    "Image": IMAGE,
    "LibraryImage": IMAGE | {"job_id", "created_at", "request"},
    "Presence": {"concept_id", "name", "score", "present"},
    "AttentionMap": {"word", "concept_id", "coverage", "url", "signed_url"},
    "JobWarning": {"type", "title", "detail", "concepts"},
    "Problem": {"type", "title", "status", "detail", "instance", "errors", "request_id", "workers"},
}  # fmt: skip


@pytest.mark.parametrize("operation", CONTRACT, ids=" ".join)
def test_every_status_of_the_contract_is_documented(
    openapi: dict[str, Any], operation: tuple[str, str]
) -> None:
    method, path = operation
    documented = {int(status) for status in openapi["paths"][path][method]["responses"]}
    assert CONTRACT[operation] <= documented


def test_objects_have_the_fields_of_the_contract(openapi: dict[str, Any]) -> None:
    for name, expected in SHAPES.items():
        assert set(openapi["components"]["schemas"][name]["properties"]) == expected


def test_every_refusal_is_documented_as_a_problem(openapi: dict[str, Any]) -> None:
    for name, operation in operations(openapi):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                openai = " /v1/" in name
                media_type = "application/json" if openai else "application/problem+json"
                assert list(response["content"]) == [media_type], (name, status)
                schema = response["content"][media_type]["schema"]["$ref"]
                assert schema.endswith("/OpenAIError" if openai else "/Problem"), (name, status)
            if status in ("429", "503"):
                assert "Retry-After" in response["headers"]


def test_every_operation_is_summarised_tagged_and_says_whether_it_needs_a_key(
    openapi: dict[str, Any],
) -> None:
    tags = {tag["name"] for tag in openapi["tags"]}
    for name, operation in operations(openapi):
        assert operation["summary"], name
        assert set(operation["tags"]) <= tags, name
        is_open = name in ("get /healthz", "get /readyz")
        # The key is optional without `key_required`, as here; OpenAPI writes that as {}.
        assert operation.get("security", []) == ([] if is_open else [{"key": []}, {}]), name
    assert openapi["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert "HTTPValidationError" not in openapi["components"]["schemas"]


def test_every_operation_id_reads_as_a_function_and_is_unique(openapi: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, operation in operations(openapi)]
    assert len(ids) == len(set(ids))
    for name in ids:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name), name
        assert name.split("_")[0] in VERBS, name


def test_every_answer_is_typed(openapi: dict[str, Any]) -> None:
    schemas = openapi["components"]["schemas"]
    for name, operation in operations(openapi):
        for status, response in operation["responses"].items():
            content = response.get("content", {})
            assert bool(content) == (status not in ("204", "304")), (name, status)
            for media_type, body in content.items():
                if media_type.endswith("json"):
                    assert body["schema"]["$ref"].rpartition("/")[2] in schemas, (name, status)
                else:
                    assert body["schema"]["type"] in ("string", "object"), (name, status)


def closed(model: type[BaseModel], value: Any) -> None:
    """Check that an answer has exactly the fields of its schema."""
    model.model_validate(value)
    assert set(value) == set(model.model_json_schema(mode="serialization")["properties"])


def test_answers_agree_with_their_schemas(client: TestClient, service: Service, teddy: str) -> None:
    body = {"prompt": f"a <{teddy}>", "attention_maps": True}
    job = client.post("/generate", json=body).json()["job"]
    closed(JobView, job)
    finish(service, job["id"])
    job = client.get(f"/jobs/{job['id']}").json()
    closed(JobView, job)
    closed(ProgressView, job["progress"])
    closed(ImageView, job["images"][0])
    closed(AttentionMapView, job["images"][0]["attention_maps"][0])
    concept = client.get(f"/concepts/{teddy}").json()
    closed(ConceptView, concept)
    closed(BaseModelRef, concept["base_model"])
    closed(VerdictView, concept["verdict"])
    curve = client.get(f"/concepts/{teddy}/curve").json()
    closed(CurveView, curve)
    closed(SimilaritiesView, curve["superclass"])
    closed(CurvePointView, curve["points"][0])
    closed(Page[JobView], client.get("/jobs").json())
    closed(Page[ConceptView], client.get("/concepts").json())
    closed(BaseModelInfo, client.get("/base-model").json())
    closed(Health, client.get("/healthz").json())


def test_requests_tell_their_defaults_in_prose_so_that_clients_do_not_send_them(
    openapi: dict[str, Any],
) -> None:
    text = json.dumps(openapi["components"]["schemas"]["GenerateRequest"])
    assert '"default"' not in text
    fields = openapi["components"]["schemas"]["GenerateRequest"]["properties"]
    assert fields["attention_maps"]["description"].endswith("Default: `false`.")
    for name, operation in operations(openapi):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            assert '"default"' not in json.dumps(content["schema"]), name

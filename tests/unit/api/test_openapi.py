"""OpenAPI agrees with the contract, with the method's own bounds, and with the answers."""

from dataclasses import fields
from typing import Any

import pytest
from pydantic import BaseModel
from starlette.testclient import TestClient

from api.openapi import GENERATE_EXAMPLES
from api.routes.health import Health
from perfusion_core.config import GenerateConfig, TrainConfig
from service.base_models import BaseModelInfo
from service.concepts.views import (
    BaseModelRef,
    ConceptView,
    CurvePointView,
    CurveView,
    SimilaritiesView,
    VerdictView,
)
from service.generations.requests import GenerateRequest
from service.jobs.views import AttentionMapView, ImageView, JobView, ProgressView
from service.options import TrainingOptions
from service.pages import Page
from service.wiring import Service
from tests.unit.api.routes.test_generate import finish
from tests.unit.service import staging

# Every path of the contract, and the statuses that it promises.
CONTRACT = {
    ("post", "/concepts"): {202, 400, 401, 403, 409, 413, 415, 422, 429, 503},
    ("get", "/concepts"): {200, 401, 403, 422, 429, 503},
    ("get", "/concepts/{ref}"): {200, 401, 403, 404, 429, 503},
    ("delete", "/concepts/{ref}"): {204, 401, 403, 404, 429, 503},
    ("post", "/concepts/{ref}/train"): {202, 400, 401, 403, 404, 409, 422, 429, 503, 507},
    ("post", "/concepts/{ref}/revert"): {200, 401, 403, 404, 409, 422, 429, 503},
    ("get", "/concepts/{ref}/file"): {200, 304, 401, 403, 404, 409, 429, 503},
    ("get", "/concepts/{ref}/curve"): {200, 401, 403, 404, 409, 429, 503},
    ("get", "/concepts/{ref}/curve/{k}"): {200, 304, 401, 403, 404, 409, 422, 429, 503},
    ("post", "/concepts/import"): {201, 400, 401, 403, 409, 413, 415, 422, 429, 503},
    ("post", "/generate"): {200, 202, 400, 401, 403, 409, 413, 415, 422, 429, 503},
    ("get", "/jobs"): {200, 401, 403, 422, 429, 503},
    ("get", "/jobs/{id}"): {200, 401, 403, 404, 429, 503},
    ("post", "/jobs/{id}/cancel"): {202, 401, 403, 404, 409, 429, 503},
    ("get", "/jobs/{id}/events"): {200, 204, 401, 403, 404, 429, 503},
    ("get", "/images/{id}"): {200, 304, 401, 403, 404, 429, 503},
    ("get", "/images/{id}/attention/{k}"): {200, 304, 401, 403, 404, 429, 503},
    ("get", "/models"): {200, 401, 403, 429, 503},
    ("get", "/base-model"): {200, 401, 403, 429, 503},
    ("get", "/healthz"): {200},
    ("get", "/readyz"): {200, 503},
    ("get", "/metrics"): {200, 401},
}
SHAPES: dict[str, set[str]] = {
    "Concept": {
        "id", "name", "placeholder", "superclass", "status", "usable", "reason", "base_model",
        "covariance_fingerprint", "bytes", "sha256", "mask_source", "training", "created_at",
        "ready_at", "job_id", "revision", "has_file_before", "verdict", "recommended_strength",
    },
    "Verdict": {"quality", "reasons"},
    "Curve": {
        "concept_id", "evaluator", "evaluator_fingerprint", "prompts", "superclass", "ceiling",
        "points", "recommended_strength", "verdict",
    },
    "CurvePoint": {"strength", "beta", "image_similarity", "text_similarity", "thumbnail_url"},
    "Similarities": {"image_similarity", "text_similarity"},
    "Job": {
        "id", "kind", "status", "progress", "queue_position", "attempt", "concept_id", "images",
        "error", "warnings", "created_at", "started_at", "finished_at",
    },
    "Progress": {"step", "total_steps", "seconds_per_step", "eta_seconds"},
    "Image": {"id", "url", "signed_url", "seed", "width", "height", "attention_maps", "presence"},
    "Presence": {"concept_id", "name", "score", "present"},
    "AttentionMap": {"word", "concept_id", "coverage", "url", "signed_url"},
    "JobWarning": {"type", "title", "detail", "concepts"},
    "Problem": {"type", "title", "status", "detail", "instance", "errors", "request_id"},
}  # fmt: skip


@pytest.fixture
def openapi(client: TestClient) -> dict[str, Any]:
    document: dict[str, Any] = client.get("/openapi.json").json()
    return document


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


def operations(openapi: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method} {path}", operation)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_refusal_is_documented_as_a_problem(openapi: dict[str, Any]) -> None:
    for name, operation in operations(openapi):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"], (name, status)
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


@pytest.mark.parametrize(
    ("config", "model"),
    [(GenerateConfig, GenerateRequest), (TrainConfig, TrainingOptions)],
)
def test_options_and_bounds_are_those_of_the_method(config: Any, model: type[BaseModel]) -> None:
    shown = model.model_json_schema()["properties"]
    for each in fields(config):
        rules = {
            name: getattr(rule, name)
            for rule in config.__pydantic_fields__[each.name].metadata
            for name in ("ge", "gt", "le", "lt", "multiple_of", "max_length")
            if hasattr(rule, name)
        }
        keys = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum",
                "lt": "exclusiveMaximum", "multiple_of": "multipleOf",
                "max_length": "maxLength"}  # fmt: skip
        schema = shown[each.name]
        inner = schema.get("anyOf", [schema])[0]
        assert {keys[name]: value for name, value in rules.items()}.items() <= inner.items()
        assert schema["description"]


def test_the_examples_are_valid() -> None:
    for example in GENERATE_EXAMPLES.values():
        GenerateRequest.model_validate(example["value"])


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


def test_the_base_model_is_described_with_its_defaults_and_every_bound(
    client: TestClient, service: Service
) -> None:
    info = {"resolution": 64, "defaults": {"train": {"max_train_steps": 150}, "generate": {}}}
    staging.register_base_model(service, info=info)
    described = client.get("/base-model").json()
    assert described["resolution"] == {"width": 64, "height": 64}
    assert described["defaults"]["train"]["max_train_steps"] == 150
    assert described["defaults"]["generate"]["num_inference_steps"] == 50
    assert described["bounds"]["generate"]["num_inference_steps"]["maximum"] == 200
    assert set(described["bounds"]["generate"]) == set(described["defaults"]["generate"])
    assert set(described["bounds"]["train"]) == set(described["defaults"]["train"])


def test_what_the_base_model_decides_has_its_default_in_models_and_none_in_openapi(
    client: TestClient, service: Service, openapi: dict[str, Any]
) -> None:
    told = {"resolution": 64, "evaluator": "clip-vit", "segmenter": None}
    overrides = {"train": {"beta": 0.5}, "generate": {"scheduler": "euler"}}
    staging.register_base_model(service, info={**told, "defaults": overrides})
    described = client.get("/models").json()
    assert client.get("/base-model").json() == described
    assert (described["evaluator"], described["segmenter"]) == ("clip-vit", None)
    assert described["defaults"]["generate"]["scheduler"] == "euler"
    for kind in ("train", "generate"):
        bounds = described["bounds"][kind].items()
        assert {name: each["default"] for name, each in bounds} == described["defaults"][kind]
    form = openapi["paths"]["/concepts"]["post"]["requestBody"]["content"]["multipart/form-data"]
    for schema, options in (
        (form["schema"]["properties"]["training"], TrainConfig),
        (openapi["components"]["schemas"]["TrainAgainRequest"], TrainConfig),
        (openapi["components"]["schemas"]["GenerateRequest"], GenerateConfig),
    ):
        shown = schema["properties"]
        assert [each.name for each in fields(options) if "default" in shown[each.name]] == []
    assert openapi["components"]["schemas"]["GenerateRequest"]["required"] == ["prompt"]


def test_the_base_model_tells_the_bounds_that_follow_from_its_size(
    client: TestClient, service: Service
) -> None:
    def maximum(kind: str, option: str) -> int:
        bounds = client.get("/base-model").json()["bounds"][kind][option]
        return int(next(schema["maximum"] for schema in bounds["anyOf"] if "maximum" in schema))

    staging.register_base_model(service)
    assert client.get("/base-model").json()["max_pixels"] is None
    assert maximum("generate", "width") == maximum("train", "resolution") == 2048
    staging.register_base_model(service, info={"resolution": 64})
    assert client.get("/base-model").json()["max_pixels"] == {"generate": 128**2, "train": 512**2}
    assert maximum("generate", "width") == maximum("generate", "height") == 512
    assert maximum("train", "resolution") == 128
    body = {"prompt": "a boat", "width": maximum("generate", "width"), "height": 32}
    assert client.post("/generate", json=body).status_code == 202
    body["height"] = 40
    assert client.post("/generate", json=body).json()["errors"][0]["pointer"] == "/width"


def test_the_reference_page_names_every_route_and_loads_nothing(
    client: TestClient, openapi: dict[str, Any]
) -> None:
    page = client.get("/docs")
    for path, methods in openapi["paths"].items():
        for method in methods:
            assert f"<code>{method.upper()} {path}</code>" in page.text
    for sign in ("<script", "src=", "http://", "https://", "<link", "@import"):
        assert sign not in page.text
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "style-src 'sha256-" in policy

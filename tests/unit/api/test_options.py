"""Options are described with the bounds of the method and the defaults of the base model."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from starlette.testclient import TestClient

import api
from api.openapi import GENERATE_EXAMPLES
from perfusion_core.config import GenerateConfig, SchedulerName, TrainConfig
from service.generations.requests import GenerateRequest
from service.options import TrainingOptions
from service.wiring import Service
from tests.unit.service import staging


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


def test_the_base_model_is_described_with_its_defaults_and_every_bound(
    client: TestClient, service: Service
) -> None:
    info = {"resolution": 64, "defaults": {"train": {"max_train_steps": 150}, "generate": {}}}
    staging.register_base_model(service, info={**info, "known_superclasses": ["teddy"]})
    assert client.get("/models").json()["known_superclasses"] == ["teddy"]
    staging.register_base_model(service, info=info)  # as a worker of an earlier release
    described = client.get("/base-model").json()
    assert described["known_superclasses"] is None
    assert described["resolution"] == {"width": 64, "height": 64}
    assert described["defaults"]["train"]["max_train_steps"] == 150
    assert described["defaults"]["generate"]["num_inference_steps"] == 50
    assert described["bounds"]["generate"]["num_inference_steps"]["maximum"] == 200
    assert set(described["bounds"]["generate"]) == set(described["defaults"]["generate"])
    assert set(described["bounds"]["train"]) == set(described["defaults"]["train"])


def test_what_the_base_model_decides_has_its_default_in_models_and_none_in_openapi(
    client: TestClient, service: Service, openapi: dict[str, Any]
) -> None:
    told = {
        "resolution": 64,
        "evaluator": "clip-vit",
        "segmenter": None,
        "backend": "eager",
    }
    overrides = {"train": {"beta": 0.5}, "generate": {"scheduler": "euler"}}
    staging.register_base_model(service, info={**told, "defaults": overrides})
    described = client.get("/models").json()
    assert client.get("/base-model").json() == described
    assert (described["evaluator"], described["segmenter"]) == ("clip-vit", None)
    assert described["backend"] == "eager"
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


def test_the_page_has_a_label_for_every_scheduler() -> None:
    script = (Path(api.__file__).parent / "web" / "create" / "settings.js").read_text("utf-8")
    labels = script.split("SCHEDULERS = {")[1].split("}")[0]
    assert set(re.findall(r"^  (\w+): ", labels, re.MULTILINE)) == set(get_args(SchedulerName))

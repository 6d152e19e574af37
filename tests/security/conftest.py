"""The real application, which requires keys, and the objects of one owner."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from service import auth
from service.concepts import use_cases as concepts
from service.execution import leases
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.jobs import use_cases as jobs
from service.wiring import Service
from tests.unit.api.conftest import BASE_URL, build_service
from tests.unit.api.conftest import migrated as migrated
from tests.unit.service import staging
from tests.unit.service.inspected import check_and_finish


@dataclass(frozen=True)
class Owned:
    """The ids of the owner's objects."""

    concept_name: str
    concept_id: str
    job_id: str
    image_id: str
    training_id: str
    inspection_id: str


@dataclass(frozen=True)
class Scene:
    """An application with the objects of one owner, and the owner's key."""

    service: Service
    app: FastAPI
    client: TestClient
    key: str
    owner_id: str
    owned: Owned

    def operations(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Return every method and path of OpenAPI, with its description."""
        return [
            (method.upper(), path, operation)
            for path, methods in self.app.openapi()["paths"].items()
            for method, operation in methods.items()
        ]


@pytest.fixture
def scene(tmp_path: Path, migrated: Path) -> Iterator[Scene]:
    settings = {"requests_per_minute": 100_000, "openai_wait_seconds": 2}
    service = build_service(tmp_path / "data", migrated, **settings)
    key, view = auth.create_key(service, label="hers")
    owned = give(service, view.owner_id)
    app = create_app(service, embedded=False, key_required=True)
    with TestClient(app, base_url=BASE_URL, raise_server_exceptions=False) as client:
        yield Scene(service, app, client, key, view.owner_id, owned)
    service.close()


def give(service: Service, owner_id: str, *, name: str = "rex") -> Owned:
    """Give an owner one object of each kind."""
    staging.register_base_model(service)
    training_id = staging.ready(service, name, owner_id=owner_id)
    body = GenerateRequest.read(
        {
            "prompt": f"a photo of <{name}>",
            "attention_maps": True,
            "sweep": {"axes": [{"field": "seed", "values": [1]}]},
        }
    )
    answer = generations.request(service, owner_id, body=body)
    claimed = staging.claim(service, answer.body["job"]["id"])
    images = staging.generated(service, claimed)
    assert leases.finish_generation(service, claimed, images=images)
    job = jobs.get(service, owner_id, job_id=claimed.id)
    concept = concepts.get(service, owner_id, ref=name)
    inspection_id = check_and_finish(service, owner_id=owner_id)
    return Owned(name, concept.id, job.id, job.images[0].id, training_id, inspection_id)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}

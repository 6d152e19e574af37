"""The real application over a real service (SQLite, local blobs), without a worker."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import migrations
from api.app import create_app
from service import wiring
from service.settings.environment import Settings
from service.wiring import Service
from tests.unit.service import staging

BASE_URL = "http://127.0.0.1"


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a migrated SQLite file, which is copied for every test."""
    file = tmp_path_factory.mktemp("template") / "perfusion.db"
    migrations.upgrade(f"sqlite:///{file}")
    return file


def build_service(folder: Path, migrated: Path, **options: Any) -> Service:
    folder.mkdir()
    shutil.copy(migrated, folder / "perfusion.db")
    return wiring.build(Settings.model_validate({"data_dir": str(folder), **options}))


@pytest.fixture
def make_service(tmp_path: Path, migrated: Path) -> Iterator[Callable[..., Service]]:
    built: list[Service] = []

    def make(**options: Any) -> Service:
        service = build_service(tmp_path / f"data{len(built)}", migrated, **options)
        built.append(service)
        return service

    yield make
    for service in built:
        service.close()


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    return make_service()


@pytest.fixture
def make_client() -> Iterator[Callable[..., TestClient]]:
    with ExitStack() as stack:

        def make(service: Service, **options: Any) -> TestClient:
            app = create_app(service, embedded=False, **options)
            client = TestClient(app, base_url=BASE_URL, raise_server_exceptions=False)
            return stack.enter_context(client)

        yield make


@pytest.fixture
def client(service: Service, make_client: Callable[..., TestClient]) -> TestClient:
    """Return a client on loopback, which needs no key."""
    return make_client(service)


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[TestClient]:
    """Yield a client shared by tests of refusals, with a ready concept teddy; it accepts no job."""
    folder = tmp_path_factory.mktemp("refusing") / "data"
    service = build_service(folder, migrated, requests_per_minute=100_000)
    staging.register_base_model(service)
    staging.ready(service, "teddy", owner_id="local")
    app = create_app(service, embedded=False)
    with TestClient(app, base_url=BASE_URL, raise_server_exceptions=False) as client:
        before = (client.get("/jobs").json(), staging.blob_keys(service))
        yield client
        assert (client.get("/jobs").json(), staging.blob_keys(service)) == before
    service.close()


@pytest.fixture
def teddy(service: Service) -> str:
    """Make a ready concept teddy of the local owner, and its base model; return the name."""
    staging.register_base_model(service)
    staging.ready(service, "teddy", owner_id="local")
    return "teddy"


@pytest.fixture
def openapi(client: TestClient) -> dict[str, Any]:
    """Return the OpenAPI document that the API serves."""
    document: dict[str, Any] = client.get("/openapi.json").json()
    return document

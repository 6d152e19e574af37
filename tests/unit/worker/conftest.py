"""A real worker for the tests: SQLite, local blobs, a base model of random weights."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import migrations
from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from service import wiring
from service.settings.environment import Settings
from service.wiring import Service
from tests.unit.perfusion_core.conftest import trained_briefly
from tests.unit.worker.staging import noise_model, workers
from worker.context import WorkerContext

# Two threads on two busy cores spend their time waiting for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def base() -> BaseModel:
    """A base model that draws noise: what a worker does with it is the same, and quick."""
    return noise_model()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One migrated SQLite file, copied for every test."""
    file = tmp_path_factory.mktemp("template") / "perfusion.db"
    migrations.upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture
def make_service(tmp_path: Path, migrated: Path) -> Iterator[Callable[..., Service]]:
    built: list[Service] = []

    def make(**options: Any) -> Service:
        folder = tmp_path / f"data{len(built)}"
        folder.mkdir()
        shutil.copy(migrated, folder / "perfusion.db")
        quick = {"reconcile_seconds": 0.1, "heartbeat_seconds": 0.1, "lease_seconds": 4}
        # Judging a concept takes longer than the few steps of most tests here.
        quick |= {"evaluator": "none"}
        settings = Settings.model_validate({"data_dir": str(folder), **quick, **options})
        service = wiring.build(settings)
        built.append(service)
        return service

    yield make
    for service in built:
        service.close()


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    return make_service()


@pytest.fixture
def make_context(service: Service, base: BaseModel) -> Iterator[Callable[[], WorkerContext]]:
    """Makes workers without consumers: tests bring the job ids themselves."""
    with workers(service, base) as make:
        yield make


@pytest.fixture
def context(make_context: Callable[[], WorkerContext]) -> WorkerContext:
    return make_context()


@pytest.fixture(scope="session")
def concept(base: BaseModel) -> Concept:
    return trained_briefly(base)

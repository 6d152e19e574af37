"""Each store keeps one deployment id, even if databases start at once; collections obey it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

import migrations
from service import deployment
from service.blobs.keys import DEPLOYMENT_KEY
from service.blobs.store import Blobs
from service.deployment import Mismatch
from service.garbage import collection
from service.settings.environment import Settings
from service.wiring import Service, build
from tests.integration.test_blobs import blobs, folder_blobs
from tests.unit.service.staging import at_once, ready, register_base_model

__all__ = ["blobs", "folder_blobs"]  # fixtures that run each test on every store

NO_GRACE = timedelta(seconds=-60)


@pytest.fixture
def make_service(tmp_path: Path, blobs: Blobs) -> Iterator[Callable[[str], Service]]:
    """Return a function that makes services with their own databases on one store."""
    with ExitStack() as stack:

        def make(name: str) -> Service:
            url = f"sqlite:///{tmp_path}/{name}.db"
            migrations.upgrade(url)
            service = replace(build(Settings(database_url=url)), blobs=blobs)
            stack.callback(service.close)
            register_base_model(service)
            return service

        yield make


def test_a_store_obeys_the_database_that_it_belongs_to(
    make_service: Callable[[str], Service], blobs: Blobs
) -> None:
    first = make_service("first")
    at_once([lambda: deployment.check(first)] * 4)
    ready(first)
    blobs.put("jobs/job_gone/1/0.png", b"orphan")
    assert collection.collect(first, grace=NO_GRACE) == 1
    kept = {blob.key for blob in blobs.list()}
    second = make_service("second")
    with pytest.raises(Mismatch):
        collection.collect(second, grace=NO_GRACE)
    deployment.adopt(second)
    with pytest.raises(Mismatch):
        collection.collect(first, grace=NO_GRACE)
    assert blobs.get(DEPLOYMENT_KEY)
    assert {blob.key for blob in blobs.list()} == kept


def test_of_new_databases_that_start_at_once_on_one_store_one_has_it(
    make_service: Callable[[str], Service],
) -> None:
    services = [make_service(f"database-{number}") for number in range(4)]

    def belongs(service: Service) -> bool:
        try:
            deployment.check(service)
        except Mismatch:
            return False
        return True

    at_once([partial(belongs, service) for service in services])
    assert sum(belongs(service) for service in services) == 1

"""A service on an empty PostgreSQL database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import migrations
from service.settings.environment import Settings
from service.wiring import Service, build
from tests.integration.stack.servers import Postgres


@pytest.fixture
def service(postgres: Postgres, tmp_path: Path) -> Iterator[Service]:
    url = postgres.new_database()
    migrations.upgrade(url)
    service = build(Settings(database_url=url, blobs_url=f"file:{tmp_path}/blobs"))
    yield service
    service.close()

"""Servers are started once for all tests; each test gets a database and a blob folder of its own.

Tests that need them carry the mark `servers`, which `make test` leaves out.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration import servers as real
from tests.integration.deployment import Deployment
from tests.integration.servers import S3, Postgres, Redis, Servers


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with real.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    with real.redis() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    with real.s3() as server:
        yield server


@pytest.fixture(scope="session")
def servers(postgres: Postgres, redis: Redis, s3: S3) -> Servers:
    return Servers(postgres=postgres, redis=redis, s3=s3)


@pytest.fixture
def deploy(servers: Servers, tmp_path: Path) -> Iterator[Callable[..., Deployment]]:
    """Makes a migrated deployment on the three servers; no process of it runs yet."""
    made: list[Deployment] = []

    def make(**settings: object) -> Deployment:
        folder = tmp_path / f"deployment-{len(made)}"
        folder.mkdir()
        made.append(Deployment(folder, servers.new_deployment(), **settings))
        made[-1].migrate()
        return made[-1]

    yield make
    for deployment in made:
        deployment.close()

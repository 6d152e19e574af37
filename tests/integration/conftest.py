"""The servers, which start once for all tests. Each test gets its own database and blob folder.

Tests that need servers have the mark `servers`, and `make test` leaves them out.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete

import migrations
from service.blobs import s3 as blobs_s3
from service.blobs.s3 import S3Blobs
from service.blobs.sql import SqlBlobs
from service.database import engine
from service.database.engine import Database
from service.database.tables import BlobRow
from tests.integration.stack import servers as real
from tests.integration.stack.deployment import Deployment
from tests.integration.stack.servers import S3, Postgres, Redis, Servers


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
    """Return a function that makes a migrated deployment on the servers, without any process."""
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


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a base model that loads and draws at once."""
    # Imported here, because it loads torch, which most of these tests do not need.
    from tests.integration.stack.tiny_base import write_tiny_base

    return write_tiny_base(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def s3_blobs(s3: S3, monkeypatch: pytest.MonkeyPatch) -> S3Blobs:
    for name, value in s3.credentials.items():
        monkeypatch.setenv(name, value)
    return blobs_s3.connect(s3.new_prefix(), endpoint_url=s3.endpoint_url, region="us-east-1")


@pytest.fixture(scope="session")
def _migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("template") / "perfusion.db"
    migrations.upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture
def sqlite_file(_migrated_sqlite: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(_migrated_sqlite, tmp_path / "perfusion.db"))


@pytest.fixture
def sqlite_database(sqlite_file: Path) -> Iterator[Database]:
    database = engine.connect(f"sqlite:///{sqlite_file}")
    yield database
    database.close()


@pytest.fixture
def sqlite_blobs(sqlite_database: Database) -> SqlBlobs:
    return SqlBlobs(sqlite_database)


@pytest.fixture(scope="session")
def _migrated_postgres(postgres: Postgres) -> str:
    # A collation that ignores case and slashes at first, as on many systems.
    order = "LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'und-u-ka-shifted'"
    url = postgres.new_database(f"TEMPLATE template0 {order}")
    migrations.upgrade(url)
    return url


@pytest.fixture
def postgres_database(_migrated_postgres: str) -> Iterator[Database]:
    database = engine.connect(_migrated_postgres)
    yield database
    with database.write() as session:
        session.execute(delete(BlobRow))
    database.close()


@pytest.fixture
def postgres_blobs(postgres_database: Database) -> SqlBlobs:
    return SqlBlobs(postgres_database)

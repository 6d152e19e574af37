"""A real service on a fresh database and local blobs, with a clock that tests move.

The database is an SQLite file. The same tests run on PostgreSQL where TEST_POSTGRES_URL names a
server (postgresql+psycopg://...) on which databases may be made.
"""

import functools
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

import migrations
from service import wiring
from service.database import engine as db
from service.database.tables import Base
from service.settings.environment import Settings
from service.wiring import Service
from tests.unit.service.staging import Clock, RecordedNotifier

POSTGRES_URL = os.environ.get("TEST_POSTGRES_URL")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield a migrated database, which is copied for every test."""
    if POSTGRES_URL is None:
        url = f"sqlite:///{tmp_path_factory.mktemp('template')}/perfusion.db"
        migrations.upgrade(url)
        yield url
        return
    url = _create_postgres(POSTGRES_URL)
    migrations.upgrade(url)
    yield url
    _drop_postgres(url)


@pytest.fixture(scope="session")
def emptied() -> Iterator[list[str]]:
    """Yield the list of PostgreSQL databases that earlier tests used, and that are empty again.

    A test takes one from it. Their engines are kept, because they know their compiled statements.
    """
    urls: list[str] = []
    if POSTGRES_URL is not None:
        db.make_engine = functools.cache(db.make_engine)
    yield urls
    for url in urls:
        _drop_postgres(url)


@pytest.fixture
def make_database(tmp_path: Path, migrated: str, emptied: list[str]) -> Iterator[Callable[[], str]]:
    made: list[str] = []

    def make() -> str:
        if POSTGRES_URL is not None:
            made.append(emptied.pop() if emptied else _create_postgres(migrated, template=migrated))
            return made[-1]
        file = tmp_path / f"{uuid.uuid4().hex}.db"
        shutil.copy(migrated.removeprefix("sqlite:///"), file)
        return f"sqlite:///{file}"

    yield make
    for url in made:
        _empty_postgres(url)
    emptied += made


@pytest.fixture
def make_service(
    tmp_path: Path, make_database: Callable[[], str], clock: Clock
) -> Iterator[Callable[..., Service]]:
    built: list[Service] = []

    def make(*, notifier: object = None, **options: object) -> Service:
        values = {
            "database_url": make_database(),
            "blobs_url": f"file:{tmp_path}/blobs{len(built)}",
            **options,
        }
        wired = wiring.build(Settings.model_validate(values), clock=clock)
        wired.notifier.close()
        service = Service(
            settings=wired.settings,
            database=wired.database,
            blobs=wired.blobs,
            notifier=notifier or RecordedNotifier(),  # type: ignore[arg-type]
        )
        built.append(service)
        return service

    yield make
    for service in built:
        service.close()


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    return make_service()


@pytest.fixture
def notifier(service: Service) -> RecordedNotifier:
    assert isinstance(service.notifier, RecordedNotifier)
    return service.notifier


def _create_postgres(server_url: str, *, template: str = "template1") -> str:
    name = f"test_{uuid.uuid4().hex}"
    original = make_url(template).database if "://" in template else template
    _execute(server_url, f'CREATE DATABASE "{name}" TEMPLATE "{original}"')
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def _drop_postgres(url: str) -> None:
    _execute(url, f'DROP DATABASE "{make_url(url).database}" WITH (FORCE)')


def _empty_postgres(url: str) -> None:
    # Deleting a few rows takes a tenth of the time of TRUNCATE.
    with db.make_engine(url, patient=True).begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())


def _execute(url: str, statement: str) -> None:
    # Patient, because copying a database may take longer than the product's time limits.
    server = make_url(url).set(database="postgres").render_as_string(hide_password=False)
    engine = db.make_engine(server, patient=True)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
    engine.dispose()

"""A command waits a limited time for a database that is not there yet."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

import migrations
from api.cli import database
from api.cli.errors import CommandError
from service.database.engine import Database, make_engine
from service.errors import Unavailable
from service.settings.environment import Settings


@pytest.fixture
def away() -> Iterator[Settings]:
    """Yield settings that name a PostgreSQL server that refuses connections."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        yield Settings(database_url=f"postgresql+psycopg://nobody@127.0.0.1:{port}/none")


def test_a_server_that_stays_away_is_waited_for_no_longer_than_said(away: Settings) -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable):
        database.await_server(away, patience_seconds=0.5, pause_seconds=0.1)
    assert 0.5 <= time.monotonic() - began < 10


def test_a_server_that_comes_late_is_found(away: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []
    refused = Database.check

    def check(self: Database) -> None:
        tries.append(self)
        if len(tries) < 3:
            refused(self)

    monkeypatch.setattr(Database, "check", check)
    database.await_server(away, pause_seconds=0.01)
    assert len(tries) == 3


def test_a_file_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Database, "check", lambda _: pytest.fail("a file is there, or not"))
    database.await_server(Settings(database_url="sqlite:///data/perfusion.db"))


@pytest.mark.parametrize("queue_url", ["memory://", "redis://localhost:6379/0"])
def test_the_database_of_a_newer_release_is_refused_in_words_or_used(
    queue_url: str, tmp_path: Path
) -> None:
    settings = Settings(database_url=f"sqlite:///{tmp_path}/p.db", queue_url=queue_url)
    migrations.upgrade(settings.database_url)
    write(settings, "UPDATE compatible_version SET version_num = 'c9999'")
    database.make_ready(settings)
    write(settings, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(CommandError, match="newer release"):
        database.make_ready(settings)


def test_a_database_that_is_behind_is_migrated_by_its_only_process_alone(tmp_path: Path) -> None:
    many = Settings(database_url=f"sqlite:///{tmp_path}/p.db", queue_url="redis://localhost:6379/0")
    with pytest.raises(CommandError, match="perfusion migrate"):
        database.make_ready(many)
    alone = Settings(database_url=many.database_url)
    database.make_ready(alone)
    assert migrations.state(alone.database_url) is migrations.State.CURRENT


def write(settings: Settings, statement: str) -> None:
    engine = make_engine(settings.database_url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()

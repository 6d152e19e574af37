"""A database that is not there yet is waited for, for a while."""

import socket
import time
from collections.abc import Iterator

import pytest

from api.cli import database
from service.db import Database
from service.errors import Unavailable
from service.settings import Settings


@pytest.fixture
def away() -> Iterator[Settings]:
    """Settings that name a PostgreSQL which refuses."""
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

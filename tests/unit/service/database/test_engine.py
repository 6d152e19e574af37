"""Writers to one SQLite file take turns within a process, and wait while a file is created."""

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event, text

from service.database import engine
from service.errors import Unavailable


@pytest.fixture
def database(tmp_path: Path) -> engine.Database:
    return engine.connect(f"sqlite:///{tmp_path}/p.db")


def test_a_writer_waits_for_the_one_before_it_without_asking_sqlite(
    database: engine.Database,
) -> None:
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(f"{threading.current_thread().name}: {statement}")

    event.listen(database.engine, "before_cursor_execute", note)

    def write() -> None:
        with database.write() as session:
            session.execute(text("SELECT 1"))

    second = threading.Thread(target=write, name="second")
    with database.write() as session:
        session.execute(text("SELECT 1"))
        second.start()
        time.sleep(0.1)  # long enough for a second writer to begin, if nothing stopped it
        assert "second: BEGIN IMMEDIATE" not in asked
    second.join()
    assert "second: BEGIN IMMEDIATE" in asked


def test_a_writer_that_never_ends_costs_the_others_a_bounded_wait(
    database: engine.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_SECONDS", 0.05)
    refused: list[str] = []

    def write() -> None:
        try:
            database.run(lambda connection, _now: connection.execute(text("SELECT 1")))
        except Unavailable as error:
            refused.append(error.slug)

    second = threading.Thread(target=write)
    with database.write():
        second.start()
        second.join()
    assert refused == ["database-unavailable"]
    write()
    assert len(refused) == 1


def test_a_file_that_another_process_is_making_is_waited_for(tmp_path: Path) -> None:
    """SQLite itself refuses at once, because two processes that set the journal might deadlock."""
    file = tmp_path / "p.db"
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    end = threading.Timer(0.2, lambda: other.execute("COMMIT"))
    end.start()
    database = engine.connect(f"sqlite:///{file}")
    database.check()
    database.close()
    end.join()
    other.close()


def test_a_file_that_another_process_never_lets_go_is_unavailable_after_a_bounded_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_SECONDS", 0.1)
    file = tmp_path / "p.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable):
            engine.connect(f"sqlite:///{file}").check()


def test_readers_do_not_wait_for_a_writer(database: engine.Database) -> None:
    with database.write() as session:
        session.execute(text("CREATE TABLE t (x)"))
        with database.read() as reader:
            assert reader.scalar(text("SELECT count(*) FROM sqlite_master")) == 0

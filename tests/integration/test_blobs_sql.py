"""Behaviour that only a database shows: its clock, its locks, its disk, its collation."""

import sqlite3
import subprocess
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import event, text

from service.blobs import sql
from service.blobs.sql import SqlBlobs
from service.blobs.store import BlobExists, BlobNotFound
from service.database import engine
from service.database.engine import Database
from service.errors import Unavailable
from tests.integration.stack.servers import Postgres, postgres_programs
from tests.unit.service.staging import Clock


@pytest.fixture(params=["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.servers)])
def database(request: pytest.FixtureRequest) -> Database:
    names = {"SQLite": "sqlite_database", "PostgreSQL": "postgres_database"}
    found: Database = request.getfixturevalue(names[request.param])
    return found


@pytest.fixture
def blobs(database: Database) -> SqlBlobs:
    return SqlBlobs(database)


def test_the_time_of_a_blob_is_the_databases(sqlite_database: Database) -> None:
    clock = Clock()
    clock.tick(-1000)
    SqlBlobs(Database(sqlite_database.engine, clock=clock)).put("a", b"")
    (blob,) = SqlBlobs(sqlite_database).list()
    assert blob.modified_at == clock.now


def test_a_listing_comes_page_by_page_and_loads_no_data(
    blobs: SqlBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "_PAGE", 5)
    names = [f"jobs/j/{n:02}" for n in range(12)]
    for name in names:
        blobs.put(name, bytes(200_000))
    tracemalloc.start()
    listed = [(blob.key, blob.size_bytes) for blob in blobs.list("jobs/")]
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert listed == [(name, 200_000) for name in names]
    assert peak_bytes < 1_000_000  # the data of one page is as large


def test_one_of_many_writers_at_once_wins_and_the_others_learn_it(blobs: SqlBlobs) -> None:
    together = threading.Barrier(8)

    def write(number: int) -> bytes | None:
        data = str(number).encode() * 10_000
        together.wait()
        try:
            blobs.put_new("jobs/j1/1/0.png", data)
        except BlobExists:
            return None
        return data

    with ThreadPoolExecutor(8) as pool:
        (won,) = [data for data in pool.map(write, range(8)) if data is not None]
    assert blobs.get("jobs/j1/1/0.png") == won


def test_many_writers_may_replace_a_blob_at_once(blobs: SqlBlobs) -> None:
    written = [str(number).encode() * 10_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda data: blobs.put("jobs/j1/preview.png", data), written))
    assert blobs.get("jobs/j1/preview.png") in written


def test_a_reader_sees_the_old_bytes_or_the_new_and_never_none(blobs: SqlBlobs) -> None:
    blobs.put("jobs/j1/preview.png", b"0")
    done = threading.Event()

    def read() -> set[bytes]:
        seen = set()
        while not done.is_set():
            seen.add(blobs.get("jobs/j1/preview.png"))  # raises BlobNotFound if there is none
        return seen

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        for number in range(30):
            blobs.put("jobs/j1/preview.png", str(number % 10).encode())
        done.set()
        assert reader.result() <= {str(number).encode() for number in range(10)}


def test_names_that_differ_in_case_alone_are_two(blobs: SqlBlobs) -> None:
    blobs.put("jobs/J1/a", b"upper")
    blobs.put("jobs/j1/a", b"lower")
    assert [blob.key for blob in blobs.list("jobs/j1/")] == ["jobs/j1/a"]
    blobs.delete_prefix("jobs/j1/")
    assert [blob.key for blob in blobs.list()] == ["jobs/J1/a"]


def test_a_database_without_its_tables_is_unavailable(tmp_path: Path) -> None:
    database = engine.connect(f"sqlite:///{tmp_path}/empty.db")
    blobs = SqlBlobs(database)
    for use in (
        blobs.check,
        lambda: blobs.put("a", b""),
        lambda: blobs.put_new("a", b""),
        lambda: blobs.get("a"),
        lambda: blobs.delete("a"),
        lambda: list(blobs.list()),
    ):
        with pytest.raises(Unavailable):
            use()
    database.close()


def test_a_full_disk_refuses_the_whole_blob_and_loses_nothing(sqlite_database: Database) -> None:
    blobs = SqlBlobs(sqlite_database)
    blobs.put("pictures/c/0.png", b"old")
    _limit_pages(sqlite_database, more=20)
    for use in (blobs.put, blobs.put_new):
        with pytest.raises(Unavailable):
            use("pictures/c/1.png", bytes(500_000))
    with pytest.raises(Unavailable):
        blobs.put("pictures/c/0.png", bytes(500_000))
    assert blobs.get("pictures/c/0.png") == b"old"
    with pytest.raises(BlobNotFound):
        blobs.get("pictures/c/1.png")
    blobs.put("pictures/c/2.png", b"small")  # there is room for it
    _limit_pages(sqlite_database, more=1_000)
    blobs.put_new("pictures/c/1.png", bytes(500_000))


def test_a_writer_who_waits_too_long_for_the_one_lock_is_told_so(
    sqlite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_SECONDS", 0.1)
    database = engine.connect(f"sqlite:///{sqlite_file}")
    blobs = SqlBlobs(database)
    with sqlite3.connect(sqlite_file, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable):
            blobs.put("a", b"")
        assert list(blobs.list()) == []  # reading needs no lock
        other.execute("ROLLBACK")
    other.close()
    blobs.put("a", b"")
    database.close()


@pytest.mark.servers
def test_a_blob_stays_where_the_callers_transaction_is_rolled_back(
    postgres_database: Database,
) -> None:
    blobs = SqlBlobs(postgres_database)
    with pytest.raises(ZeroDivisionError), postgres_database.write() as session:
        session.execute(text("SELECT 1"))
        blobs.put("jobs/j1/1/0.png", b"result")
        raise ZeroDivisionError
    assert blobs.get("jobs/j1/1/0.png") == b"result"


@pytest.mark.servers
def test_a_folder_is_a_range_of_the_primary_key(postgres_database: Database) -> None:
    plans: list[str] = []
    with postgres_database.read() as session:
        session.execute(text("SET enable_seqscan = off"))
        wanted = sql._under("jobs/j1/").compile(
            postgres_database.engine, compile_kwargs={"literal_binds": True}
        )
        plans += session.scalars(text(f"EXPLAIN SELECT key FROM blobs WHERE {wanted}"))
    assert any("Index Cond" in line for line in plans), plans


@pytest.mark.servers
def test_one_dump_holds_rows_and_blobs(
    postgres: Postgres, postgres_database: Database, tmp_path: Path
) -> None:
    SqlBlobs(postgres_database).put("jobs/j1/1/0.png", bytes(range(256)) * 1000)
    dump, restored = tmp_path / "perfusion.dump", postgres.new_database()
    source = postgres_database.engine.url.render_as_string(hide_password=False)
    _run("pg_dump", "--format=custom", f"--file={dump}", source.replace("+psycopg", ""))
    _run("pg_restore", "--exit-on-error", "--dbname", restored.replace("+psycopg", ""), str(dump))
    database = engine.connect(restored)
    assert SqlBlobs(database).get("jobs/j1/1/0.png") == bytes(range(256)) * 1000
    database.close()


def _run(program: str, *arguments: str) -> None:
    subprocess.run([postgres_programs() / program, *arguments], check=True)


def _limit_pages(database: Database, *, more: int) -> None:
    """Let SQLite's file grow by at most `more` pages, as on a disk that is nearly full."""
    with database.read() as session:
        pages = session.scalar(text("PRAGMA page_count"))
    database.engine.dispose()

    @event.listens_for(database.engine, "connect")
    def limit(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages + more}")

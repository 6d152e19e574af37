"""The schema: reached by migrations alone, equal to the tables, and reversible."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import inspect, text

import migrations
from service import db
from service.errors import Unavailable
from service.tables import Base


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/new folder/perfusion.db"


def tables(url: str) -> set[str]:
    engine = db.make_engine(url)
    try:
        return set(inspect(engine).get_table_names()) - {"alembic_version"}
    finally:
        engine.dispose()


def test_a_fresh_database_reaches_the_schema_of_the_tables(url: str) -> None:
    migrations.upgrade(url)
    command.check(migrations.config(url))  # raises where a migration is missing
    assert tables(url) == set(Base.metadata.tables)


def test_every_migration_can_be_taken_back(url: str) -> None:
    migrations.upgrade(url)
    assert migrations.is_current(url)
    migrations.downgrade(url, "base")
    assert tables(url) == set()
    assert not migrations.is_current(url)
    migrations.upgrade(url)
    assert migrations.is_current(url)


def test_migrating_twice_changes_nothing(url: str) -> None:
    migrations.upgrade(url)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        connection.execute(
            "INSERT INTO workers VALUES ('w', '[]', 'cpu', '2026-01-01', '2026-01-01')"
        )
        connection.commit()
    migrations.upgrade(url)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        assert connection.execute("SELECT count(*) FROM workers").fetchone() == (1,)


def test_servers_that_start_at_once_migrate_once(url: str) -> None:
    # Alembic's own context is not made for threads, so each migrates from a process.
    with ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(lambda _: migrate_in_a_process(url), range(2)))
    assert codes == [0, 0]
    assert migrations.is_current(url)


def migrate_in_a_process(url: str) -> int:
    program = f"import migrations; migrations.upgrade({url!r})"
    return subprocess.run([sys.executable, "-c", program], check=False).returncode


def test_sqlite_is_opened_durable_with_foreign_keys_and_patience(url: str) -> None:
    database = db.connect(url)
    with database.read() as session:
        pragmas = {
            name: session.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "foreign_keys", "busy_timeout", "synchronous")
        }
    database.close()
    assert pragmas == {
        "journal_mode": "wal",
        "foreign_keys": 1,
        "busy_timeout": 10_000,
        "synchronous": 2,
    }


def test_a_database_without_its_tables_is_unavailable_not_a_trace(url: str) -> None:
    database = db.connect(url)
    database.check()
    with pytest.raises(Unavailable) as caught, database.read() as session:
        session.execute(text("SELECT * FROM jobs"))
    database.close()
    assert "jobs" not in caught.value.detail

"""Migrations alone reach the schema of the tables, and can be reversed."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import MetaData, insert, inspect, text

import migrations
from service.database import engine as db
from service.database.tables import Base
from service.errors import Unavailable

VERSION_TABLES = {migrations.BREAKING.version_table, migrations.COMPATIBLE.version_table}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/new folder/perfusion.db"


def tables(url: str) -> set[str]:
    engine = db.make_engine(url)
    try:
        return set(inspect(engine).get_table_names()) - VERSION_TABLES
    finally:
        engine.dispose()


def test_a_fresh_database_reaches_the_schema_of_the_tables(url: str) -> None:
    migrations.upgrade(url)
    for series in (migrations.BREAKING, migrations.COMPATIBLE):
        command.check(migrations.config(url, series))  # raises if a migration is missing
    assert tables(url) == set(Base.metadata.tables)


def test_every_migration_can_be_taken_back(url: str) -> None:
    migrations.upgrade(url)
    assert migrations.state(url) is migrations.State.CURRENT
    migrations.downgrade(url, "base")
    assert tables(url) == set()
    assert migrations.state(url) is migrations.State.BEHIND
    migrations.upgrade(url)
    assert migrations.state(url) is migrations.State.CURRENT


def test_migrating_twice_changes_nothing(url: str) -> None:
    migrations.upgrade(url)
    write(url, "INSERT INTO workers VALUES ('w', '[]', 'cpu', '2026-01-01', '2026-01-01')")
    migrations.upgrade(url)
    assert read(url, "SELECT count(*) FROM workers") == [(1,)]


def test_what_a_newer_release_has_changed_compatibly_is_left_alone(url: str) -> None:
    migrations.upgrade(url)
    write(url, "UPDATE compatible_version SET version_num = 'c9999'")
    assert migrations.state(url) is migrations.State.AHEAD_COMPATIBLE
    migrations.upgrade(url)
    assert read(url, "SELECT version_num FROM compatible_version") == [("c9999",)]


def test_a_database_that_only_a_newer_release_can_run_on_is_refused_in_words(url: str) -> None:
    migrations.upgrade(url)
    write(url, "UPDATE alembic_version SET version_num = '9999'")
    assert migrations.state(url) is migrations.State.AHEAD
    with pytest.raises(migrations.NewerDatabase, match="belongs to a newer release"):
        migrations.upgrade(url)


def test_compatible_steps_leave_the_revision_that_the_previous_release_compares(url: str) -> None:
    command.upgrade(migrations.config(url), "head")
    before = read(url, "SELECT version_num FROM alembic_version")
    assert migrations.state(url) is migrations.State.BEHIND
    migrations.upgrade(url)
    assert read(url, "SELECT version_num FROM alembic_version") == before


def test_a_job_is_not_deleted_from_under_its_images(url: str) -> None:
    migrations.upgrade(url)
    for series in (None, migrations.COMPATIBLE):
        if series is not None:
            migrations.downgrade(url, "base", series=series)
            migrations.upgrade(url)
        (keys,) = read(url, "SELECT on_delete FROM pragma_foreign_key_list('images')")
        assert keys == ("RESTRICT",)


def test_images_of_the_release_before_are_found_by_their_prompts_and_concepts(url: str) -> None:
    migrations.upgrade(url)
    migrations.downgrade(url, "c0008", series=migrations.COMPATIBLE)
    engine = db.make_engine(url)
    schema = MetaData()
    schema.reflect(engine, only=("jobs", "images"))
    jobs, images = schema.tables["jobs"], schema.tables["images"]
    now = datetime(2026, 1, 1)
    # More than the migration reads at once, and the trainings and images without a concept too.
    count, rex = 2001, {"id": "concept_1", "name": "rex", "sha256": "0" * 64}
    payloads = [{"prompt": f"Stra\u00dfe {k}", "concepts": [rex] * (k % 2)} for k in range(count)]
    ended = {"owner_id": "o", "status": "succeeded", "step": 1, "total_steps": 1, "attempt": 1}
    never = {"attempts_spent": 1, "max_attempts": 3, "dispatch_at": now, "rings": 0, "version": 1}
    same: dict[str, object] = {
        "owner_id": "o",
        "seed": 1,
        "width": 64,
        "height": 64,
        "sha256": "0" * 64,
    }
    same["created_at"] = now
    with engine.begin() as connection:
        rows = [
            {"id": f"job_{k}", "kind": "generate", "payload": payload, "created_at": now}
            for k, payload in enumerate(payloads)
        ]
        rows.append({"id": "job_t", "kind": "train", "payload": {"name": "x"}, "created_at": now})
        connection.execute(insert(jobs), [ended | never | row for row in rows])
        connection.execute(
            insert(images),
            [
                {**same, "id": f"{job}/{k}", "job_id": job, "position": k, "blob_key": job}
                for job in (row["id"] for row in rows[:-1])
                for k in range(2)
            ],
        )
    engine.dispose()
    migrations.upgrade(url)
    filled = read(url, "SELECT job_id, searched_prompt, concept_refs FROM images")
    assert len(filled) == 2 * count
    refs = ["[]", '["concept_1", "rex"]']
    assert set(filled) == {(f"job_{k}", f"strasse {k}", refs[k % 2]) for k in range(count)}


def write(url: str, statement: str) -> None:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        connection.execute(statement)
        connection.commit()


def read(url: str, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        return connection.execute(statement).fetchall()


@pytest.mark.slow
def test_servers_that_start_at_once_migrate_once(url: str) -> None:
    # Alembic's context is not thread-safe, so each migration runs in a process of its own.
    with ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(lambda _: migrate_in_a_process(url), range(2)))
    assert codes == [0, 0]
    assert migrations.state(url) is migrations.State.CURRENT


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

"""This release meets a database that a newer release has migrated."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.stack.deployment import Deployment

pytestmark = [pytest.mark.servers, pytest.mark.timeout(600)]


@pytest.fixture
def newer(tmp_path: Path) -> Iterator[Deployment]:
    """Yield a deployment on a migrated SQLite database and on Redis, so `serve` has no worker."""
    deployment = Deployment(tmp_path, {"PERFUSION_QUEUE_URL": "redis://127.0.0.1:9/0"})
    deployment.environment["PERFUSION_DATABASE_URL"] = f"sqlite:///{tmp_path}/perfusion.db"
    deployment.migrate()
    yield deployment
    deployment.close()


def test_a_release_runs_on_a_newer_compatible_schema_and_says_so(newer: Deployment) -> None:
    write(newer, "UPDATE compatible_version SET version_num = 'c9999'")
    migrated = newer.python("-m", "api", "migrate")
    assert migrated.returncode == 0
    assert '"database.newer"' in migrated.stderr
    api = newer.api()
    api.start()
    assert api.http.get("/jobs").status_code == 200
    assert '"database.newer"' in api.process.log
    assert read(newer, "SELECT version_num FROM compatible_version") == ["c9999"]


def test_a_release_refuses_a_newer_schema_that_it_cannot_run_on_and_says_what_to_do(
    newer: Deployment,
) -> None:
    write(newer, "UPDATE alembic_version SET version_num = '0099'")
    for command in ("migrate", "serve"):
        for queue_url in ("redis://127.0.0.1:9/0", "memory://"):
            done = newer.python("-m", "api", command, queue_url=queue_url)
            assert done.returncode == 1
            assert "belongs to a newer release" in done.stderr
            assert "Start the newer release again" in done.stderr
            assert "Traceback" not in done.stderr
    assert read(newer, "SELECT version_num FROM alembic_version") == ["0099"]


def write(deployment: Deployment, statement: str) -> None:
    with closing(sqlite3.connect(_file(deployment))) as database:
        database.execute(statement)
        database.commit()


def read(deployment: Deployment, question: str) -> list[str]:
    with closing(sqlite3.connect(_file(deployment))) as database:
        return [row[0] for row in database.execute(question)]


def _file(deployment: Deployment) -> str:
    return deployment.environment["PERFUSION_DATABASE_URL"].removeprefix("sqlite:///")

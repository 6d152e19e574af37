"""Migrations on both databases, between releases, and by several processes at once."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from pydantic import SecretStr
from sqlalchemy import func, inspect, select, text

import migrations
from service import auth, deployment
from service.blobs.keys import DEPLOYMENT_KEY
from service.database import engine as db
from service.database.tables import ApiKeyRow, Base, BaseModelRow, DeploymentRow
from service.execution import leases
from service.settings.environment import Settings
from service.statuses import Queue
from service.wiring import Service, build
from tests.integration.stack.servers import Postgres
from tests.unit.service.staging import at_once, register_base_model, submit

pytestmark = pytest.mark.servers
ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def empty(request: pytest.FixtureRequest, tmp_path: Path, postgres: Postgres) -> str:
    """Return the URL of an empty database."""
    if request.param == "SQLite":
        return f"sqlite:///{tmp_path}/perfusion.db"
    return postgres.new_database()


def test_migrations_reach_the_tables_and_can_be_taken_back_one_by_one(empty: str) -> None:
    migrations.upgrade(empty)
    for series in (migrations.BREAKING, migrations.COMPATIBLE):
        command.check(migrations.config(empty, series))  # raises if a migration is missing
    for revision in ("0002", "0001", "base"):
        migrations.downgrade(empty, revision)
    engine = db.make_engine(empty)
    version_tables = {"alembic_version", "compatible_version"}
    assert set(inspect(engine).get_table_names()) == version_tables
    migrations.upgrade(empty)
    assert set(inspect(engine).get_table_names()) == version_tables | set(Base.metadata.tables)
    engine.dispose()
    assert migrations.state(empty) is migrations.State.CURRENT


def test_going_back_a_release_keeps_every_image_and_event(empty: str, tmp_path: Path) -> None:
    migrations.upgrade(empty)
    service = build(Settings(database_url=empty, blobs_url=f"file:{tmp_path}/blobs"))
    submit(service)
    with service.database.write() as session:
        session.execute(
            text(
                "INSERT INTO images (id, job_id, owner_id, position, seed, width, height,"
                " blob_key, sha256, created_at)"
                " SELECT 'image_1', id, owner_id, 0, 1, 8, 8, 'k', 's',"
                " created_at FROM jobs"
            )
        )
    service.close()
    migrations.downgrade(empty, "0001")
    migrations.upgrade(empty)
    engine = db.make_engine(empty)
    with engine.connect() as connection:
        counts = [
            connection.scalar(text(f"SELECT count(*) FROM {table}"))
            for table in ("jobs", "images", "job_events", "concepts", "pictures")
        ]
    engine.dispose()
    assert counts == [1, 1, 1, 1, 1]


def test_the_previous_release_may_add_jobs_beside_this_one(service: Service) -> None:
    submit(service)
    with service.database.write() as session:
        session.execute(text("ALTER TABLE jobs ALTER COLUMN turn SET DEFAULT 0"))
        session.execute(
            text(
                "INSERT INTO jobs (id, owner_id, kind, status, payload, step, total_steps, attempt,"
                " attempts_spent, max_attempts, dispatch_at, rings, version, created_at)"
                " SELECT 'job_of_before', owner_id, kind, status, payload, step, total_steps,"
                " attempt, attempts_spent, max_attempts, dispatch_at, rings, version, created_at"
                " FROM jobs"
            )
        )
    for _ in range(2):
        assert leases.claim_next(service, Queue.TRAIN, worker_id="w") is not None


def test_processes_that_migrate_at_once_migrate_once(postgres: Postgres) -> None:
    url = postgres.new_database()
    program = f"import migrations; migrations.upgrade({url!r})"
    with ThreadPoolExecutor(2) as pool:
        done = list(
            pool.map(
                lambda _: subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False),
                range(2),
            )
        )
    assert [process.returncode for process in done] == [0, 0]
    assert migrations.state(url) is migrations.State.CURRENT


def test_first_starts_at_once_agree(service: Service) -> None:
    """They agree on one deployment id, bootstrap key and base model, and none of them fails."""
    settings = service.settings.model_copy(update={"bootstrap_key": SecretStr("sk_" + "b" * 43)})
    starting = replace(service, settings=settings)

    def start() -> None:
        deployment.check_at_start(starting)
        auth.ensure_bootstrap_key(starting)
        register_base_model(starting)

    at_once([start] * 8)
    with service.database.read() as session:
        for table in (DeploymentRow, ApiKeyRow, BaseModelRow):
            assert session.scalar(select(func.count()).select_from(table)) == 1
        assert (
            session.scalar(select(DeploymentRow.id)) == service.blobs.get(DEPLOYMENT_KEY).decode()
        )

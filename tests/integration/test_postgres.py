"""What only a real PostgreSQL shows: bounds, locks, migrations, and the same laws as on SQLite."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from alembic import command
from pydantic import SecretStr
from sqlalchemy import Connection, func, inspect, select, text

import migrations
from service import auth, deployment
from service.blobs.keys import DEPLOYMENT_KEY
from service.concepts import rows as concept_rows
from service.concepts import use_cases as concepts
from service.database import engine as db
from service.database.engine import Database
from service.database.tables import ApiKeyRow, Base, BaseModelRow, DeploymentRow, JobRow
from service.errors import NotFound, Unavailable
from service.execution import leases, reconciler
from service.idempotency import Idempotency, answer_once
from service.jobs import transitions
from service.jobs import use_cases as jobs
from service.settings.environment import Settings
from service.views import Answer, JobKind, JobStatus
from service.wiring import Service, build
from tests.integration.stack.servers import Postgres
from tests.unit.service.staging import (
    OWNER,
    STRANGER,
    at_once,
    register_base_model,
    submit,
    uploaded,
)

pytestmark = pytest.mark.servers
ROOT = Path(__file__).parents[2]


@pytest.fixture
def service(postgres: Postgres, tmp_path: Path) -> Iterator[Service]:
    url = postgres.new_database()
    migrations.upgrade(url)
    service = build(Settings(database_url=url, blobs_url=f"file:{tmp_path}/blobs"))
    yield service
    service.close()


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def empty(request: pytest.FixtureRequest, tmp_path: Path, postgres: Postgres) -> str:
    """The URL of an empty database."""
    if request.param == "SQLite":
        return f"sqlite:///{tmp_path}/perfusion.db"
    return postgres.new_database()


@pytest.mark.timeout(900)
def test_the_laws_of_jobs_hold_on_postgres_as_on_sqlite(postgres: Postgres) -> None:
    """The same test files that `make test` runs on SQLite, Hypothesis' machine among them."""
    laws = (
        *(f"execution/{law}" for law in ("lease_machine", "leases", "reconciler", "lost_answers")),
        *("execution/checkpoints", "jobs/job_order", "garbage/collection", "garbage/retention"),
        *(f"concepts/{law}" for law in ("use_cases", "import", "trainings")),
        *("auth_keys", "base_models_and_workers", "deployment", "quota", "generations/requests"),
    )
    files = [Path("tests/unit/service", law) for law in laws]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"),
            *(str(file.with_name(f"test_{file.name}.py")) for file in files),
        ],
        cwd=ROOT,
        env=os.environ | {"TEST_POSTGRES_URL": postgres.url()},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-6000:]


def test_migrations_reach_the_tables_and_can_be_taken_back_one_by_one(empty: str) -> None:
    migrations.upgrade(empty)
    for series in (migrations.BREAKING, migrations.COMPATIBLE):
        command.check(migrations.config(empty, series))  # raises where a migration is missing
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
        assert leases.claim_next(service, JobKind.TRAIN, worker_id="w") is not None


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
    """On one deployment id, one bootstrap key and one base model: none ends with a trace."""
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


def test_leases_follow_the_clock_of_the_server(service: Service) -> None:
    with service.database.read() as session:
        first, second = service.database.now(session), service.database.now(session)
    # Not the transaction's: that stands still, and a lease would begin before it was taken.
    assert first < second


def test_a_statement_that_takes_too_long_is_ended(service: Service) -> None:
    assert_unavailable(service.database, "SELECT pg_sleep(60)", within_seconds=14)


def test_waiting_for_a_lock_is_bounded(service: Service) -> None:
    job_id = submit(service)
    with service.database.write() as session:
        session.execute(text("SELECT 1 FROM jobs FOR UPDATE"))
        began = time.monotonic()
        with pytest.raises(Unavailable):
            jobs.cancel(service, OWNER, job_id=job_id)
        assert time.monotonic() - began < 8


def test_a_frozen_server_is_unavailable_and_the_next_request_finds_it_again(
    service: Service, postgres: Postgres
) -> None:
    service.database.check()
    postgres.process.freeze()
    try:
        assert_unavailable(service.database, "SELECT 1", within_seconds=25)
    finally:
        postgres.process.thaw()
    service.database.check()


def test_a_restart_costs_nobody_more_than_one_try(service: Service, postgres: Postgres) -> None:
    service.database.check()
    postgres.restart_immediately()
    service.database.check()  # the pool looks at a connection before it gives it away


def test_a_connection_is_tried_before_use_only_where_it_has_rested(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialect, pings = service.database.engine.dialect, []
    ping = dialect.do_ping
    monkeypatch.setattr(dialect, "do_ping", lambda connection: pings.append(ping(connection)))
    now = 5.0
    monkeypatch.setattr(db, "time", SimpleNamespace(monotonic=lambda: now))
    service.database.check()
    service.database.check()
    assert not pings
    now += 0.2
    service.database.check()
    assert len(pings) == 1


def test_a_process_opens_no_more_connections_than_it_may(
    service: Service, postgres: Postgres
) -> None:
    most = service.settings.database_pool_size
    release, inside = threading.Event(), threading.Semaphore(0)

    def hold(_: int) -> None:
        with service.database.read() as session:
            session.execute(text("SELECT 1"))
            inside.release()
            release.wait(30)

    with ThreadPoolExecutor(most) as pool:
        for n in range(most):
            pool.submit(hold, n)
        for _ in range(most):
            assert inside.acquire(timeout=10)
        assert_unavailable(service.database, "SELECT 1", within_seconds=6)
        release.set()
    service.database.check()


def test_a_database_without_its_tables_is_unavailable_not_a_trace(postgres: Postgres) -> None:
    database = db.connect(postgres.new_database())
    assert_unavailable(database, "SELECT * FROM jobs", within_seconds=6)
    database.close()


def test_a_cancellation_is_not_lost_between_running_and_waiting(service: Service) -> None:
    """At the moment when a worker gives a job back, it is neither quite running nor waiting."""
    claimed = leases.claim(service, submit(service), worker_id="w")
    assert claimed is not None
    with ThreadPoolExecutor(1) as pool:
        with service.database.write() as session:
            # The release, not committed yet.
            transitions.change(
                session,
                now=service.database.now(session),
                where=(JobRow.id == claimed.id,),
                old=JobStatus.RUNNING,
                new=JobStatus.QUEUED,
                reason="released",
            )
            cancelling = pool.submit(jobs.cancel, service, OWNER, job_id=claimed.id)
            time.sleep(0.5)
        assert cancelling.result(timeout=10).status is JobStatus.CANCELLED


def test_a_worker_frozen_inside_a_transaction_stops_nobody_for_long(service: Service) -> None:
    """Its locks are passed by at once, and taken away after a while."""
    job_id, other_id = submit(service), submit(service, "other")
    for claimed_id in (job_id, other_id):
        assert leases.claim(service, claimed_id, worker_id="w") is not None
    with service.database.write() as session:
        session.execute(text("UPDATE jobs SET lease_until = clock_timestamp() - interval '1 s'"))
    frozen = service.database.engine.execution_options(writes=True).connect()
    frozen.execute(text("SELECT 1 FROM jobs WHERE id = :id FOR UPDATE"), {"id": job_id})
    try:
        assert reconciler.reconcile(service).requeued == 1
        assert jobs.get(service, OWNER, job_id=other_id).status is JobStatus.QUEUED
        give_up_at = time.monotonic() + 15
        while not reconciler.reconcile(service).requeued and time.monotonic() < give_up_at:
            time.sleep(0.5)
        assert jobs.get(service, OWNER, job_id=job_id).status is JobStatus.QUEUED
    finally:
        frozen.invalidate()
        frozen.close()


def test_many_workers_at_once_take_each_job_once_and_by_turns(service: Service) -> None:
    for owner_id, count in ((OWNER, 30), (STRANGER, 10)):
        for n in range(count):
            submit(service, f"concept-{n}", owner_id=owner_id)

    def work(n: int) -> list[str]:
        taken = []
        while (claimed := leases.claim_next(service, JobKind.TRAIN, worker_id=f"w{n}")) is not None:
            taken.append(claimed.id)
        return taken

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(work, range(8)))
    with service.database.read() as session:
        rows = list(session.scalars(select(JobRow)))
    turn_of = {job.id: job.turn for job in rows}
    assert sorted(job_id for job_ids in taken for job_id in job_ids) == sorted(turn_of)
    assert len(turn_of) == 40
    # Which of two workers was first is written down nowhere. But each takes the lowest turn that
    # is left, so its own turns rise, although the stranger's jobs came after all thirty.
    for job_ids in taken:
        turns = [turn_of[job_id] for job_id in job_ids]
        assert turns == sorted(turns)
    assert max(job.turn for job in rows if job.owner_id == STRANGER) <= 10


def test_two_equal_requests_of_the_same_moment_are_done_once(service: Service) -> None:
    """Both have looked and found nothing when the first of them writes."""
    looked = threading.Barrier(2)

    def act(connection: Connection, now: datetime) -> tuple[dict[str, Any], str]:
        with suppress(threading.BrokenBarrierError):
            looked.wait(timeout=5)
        return {"thread": threading.get_ident()}, "/jobs/job_1"

    def ask(_: int) -> Answer:
        key = Idempotency("k")
        return answer_once(service, OWNER, idempotency=key, request_sha256="1" * 64, act=act)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(ask, range(2))
    assert sorted([first.replayed, second.replayed]) == [False, True]
    assert first.body == second.body


def test_a_request_whose_like_is_answered_while_it_works_gets_that_answer_and_no_refusal(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has looked for an earlier answer, and then finds its own name taken."""

    def create() -> Answer:
        return concepts.create(
            service,
            OWNER,
            name="rex",
            superclass="dog",
            pictures=uploaded(),
            training={},
            idempotency=Idempotency("k"),
        )

    answers = []
    free_name = concept_rows.free_name

    def meanwhile(*arguments: Any, **named: Any) -> Any:
        monkeypatch.undo()
        with ThreadPoolExecutor(1) as pool:
            answers.append(pool.submit(create).result())
        return free_name(*arguments, **named)

    monkeypatch.setattr(concept_rows, "free_name", meanwhile)
    answers.append(create())
    assert [answer.replayed for answer in answers] == [False, True]
    assert answers[0].body == answers[1].body


def test_a_claim_passes_by_a_job_that_another_worker_is_claiming(service: Service) -> None:
    first, second = submit(service, "first"), submit(service, "second")
    with service.database.write() as session:
        session.execute(text("SELECT 1 FROM jobs WHERE id = :id FOR UPDATE"), {"id": first})
        claimed = leases.claim_next(service, JobKind.TRAIN, worker_id="w")
        assert claimed is not None and claimed.id == second


def assert_unavailable(database: Database, statement: str, *, within_seconds: float) -> None:
    def ask() -> None:
        with database.read() as session:
            session.execute(text(statement))

    began = time.monotonic()
    with pytest.raises(Unavailable):
        ask()
    assert time.monotonic() - began < within_seconds


@pytest.mark.parametrize("second", ["delete", "replace"])
def test_a_concept_that_another_request_deletes_meanwhile_is_gone_and_no_error(
    service: Service, second: str
) -> None:
    job_id = submit(service, "rex")
    assert jobs.cancel(service, OWNER, job_id=job_id).status is JobStatus.CANCELLED
    with ThreadPoolExecutor(1) as pool:
        with service.database.write() as session:
            row = concept_rows.find(session, OWNER, ref="rex")
            session.delete(concept_rows.lock(session, row))
            session.flush()
            if second == "delete":
                waiting = pool.submit(concepts.delete, service, OWNER, ref="rex")
            else:
                waiting = pool.submit(submit, service, "rex")
            await_a_lock(service)
        if second == "delete":
            with pytest.raises(NotFound):
                waiting.result()
        else:
            assert waiting.result() != job_id


def await_a_lock(service: Service) -> None:
    """Return once a transaction waits for another one's row."""
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    while True:
        with service.database.read() as session:
            if session.scalar(text(waits)):
                return
        time.sleep(0.01)


def test_a_failed_concept_that_is_deleted_and_replaced_at_once_costs_nobody_a_deadlock(
    service: Service,
) -> None:
    job_id = submit(service, "rex")
    assert jobs.cancel(service, OWNER, job_id=job_id).status is JobStatus.CANCELLED
    with ThreadPoolExecutor(1) as pool:
        with service.database.write() as session:
            # A deletion has locked the job, and locks the concept next.
            session.execute(select(JobRow.id).where(JobRow.id == job_id).with_for_update())
            replacing = pool.submit(submit, service, "rex")
            await_a_lock(service)
            concept_rows.lock(session, concept_rows.find(session, OWNER, ref="rex"))
        assert replacing.result() != job_id

"""Every wait for PostgreSQL is bounded: statements, locks, connections, a frozen server."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from service.database import engine as db
from service.database.engine import Database
from service.errors import Unavailable
from service.jobs import use_cases as jobs
from service.wiring import Service
from tests.integration.stack.servers import Postgres
from tests.unit.service.staging import OWNER, submit

pytestmark = pytest.mark.servers


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
    service.database.check()  # the pool tests a connection before it hands it out


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


def assert_unavailable(database: Database, statement: str, *, within_seconds: float) -> None:
    def ask() -> None:
        with database.read() as session:
            session.execute(text(statement))

    began = time.monotonic()
    with pytest.raises(Unavailable):
        ask()
    assert time.monotonic() - began < within_seconds

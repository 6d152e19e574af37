"""The database: one engine, two kinds of transaction, one clock.

`write()` opens a write transaction; `read()` opens a session that only reads. On SQLite, a write
transaction begins with IMMEDIATE, so that two writers wait for each other instead of failing in the
middle. Writers of one process wait for a lock in Python, because SQLite itself only retries after
sleeps of up to 0.1 s. Driver errors that mean "cannot serve now" are raised as Unavailable; all
other driver errors are bugs and stay as they are.

PostgreSQL is reached over a network, so every wait has a limit. The server ends long statements,
waits for locks and forgotten transactions. The kernel ends connections to a host that has vanished.
This process ends connections to a server that stays silent.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import sqlalchemy
import structlog
from sqlalchemy import Connection, Dialect, Engine, event, func, make_url, select
from sqlalchemy.exc import (
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    InterfaceError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from service.errors import Unavailable
from service.settings.environment import SettingsError

BUSY_TIMEOUT_SECONDS = 10
_BUSY_POLL_SECONDS = 0.02

# A transaction here takes milliseconds. If one takes longer, the database is in trouble, and more
# waiting requests make that worse. Short limits keep threads free to answer "try again".
_CONNECT_SECONDS = 3
_POOL_SECONDS = 3
_LOCK_SECONDS = 3
_STATEMENT_SECONDS = 8
# The longest that a process frozen inside a transaction keeps its locks.
_IDLE_IN_TRANSACTION_SECONDS = 8
# Longer than the server's own limits, so that this limit takes effect only if the server does not
# act. It equals this process's own limit in postgres.py.
_SILENCE_SECONDS = 10
# A connection used this recently is known to be alive. Checking it again would cost every
# transaction a round trip, and no server restarts this fast.
_TRUSTED_SECONDS = 0.1
# Firewalls and proxies forget old connections.
_RECYCLE_SECONDS = 1800
_POSTGRES_OPTIONS: dict[str, Any] = {
    "connect_timeout": _CONNECT_SECONDS,
    "application_name": "perfusion",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": _SILENCE_SECONDS * 1000,
    "options": (
        f"-c lock_timeout={_LOCK_SECONDS}s -c statement_timeout={_STATEMENT_SECONDS}s "
        f"-c idle_in_transaction_session_timeout={_IDLE_IN_TRANSACTION_SECONDS}s"
    ),
}
# 42P01: a table is missing (the migration has yet to run). 25006: the server is read-only (a
# fail-over).
_NOT_NOW = frozenset({"42P01", "25006"})
_CLOCK = select(func.clock_timestamp())
_BEGAN_AT = "perfusion_began_at"
Clock = Callable[[], datetime]
T = TypeVar("T")
_log = structlog.get_logger()


class Database:
    """Sessions on one database, and its clock."""

    def __init__(self, engine: Engine, *, clock: Clock | None = None) -> None:
        self.engine = engine
        self._clock = clock
        self._writing = engine.execution_options(writes=True)
        self._readers = sessionmaker(engine, expire_on_commit=False)
        self._writers = sessionmaker(self._writing, expire_on_commit=False)
        self._line = Lock() if engine.dialect.name == "sqlite" else None

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a session that only reads."""
        with translated(), self._readers() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a session that commits when the block ends and rolls back when it raises."""
        with self._in_line(), translated(), self._writers.begin() as session:
            yield session

    def run(self, act: Callable[[Connection, datetime], T]) -> T:
        """Run `act` in a write transaction and pass it the time.

        `act` gets a connection instead of a session, because a session's bookkeeping would slow
        down every accepted request. If another transaction inserted the same unique value
        meanwhile, `act` runs once more and sees what that transaction wrote. So `act` must write
        rows and do nothing else.
        """
        try:
            return self._run(act)
        except IntegrityError:
            return self._run(act)

    def _run(self, act: Callable[[Connection, datetime], T]) -> T:
        with self._in_line(), translated(), self._writing.begin() as connection:
            return act(connection, self.now(connection))

    @contextmanager
    def _in_line(self) -> Iterator[None]:
        if self._line is None:
            yield
        elif self._line.acquire(timeout=BUSY_TIMEOUT_SECONDS):
            try:
                yield
            finally:
                self._line.release()
        else:
            raise _unavailable(TimeoutError("another writer of this process did not end in time"))

    def now(self, session: Session | Connection) -> datetime:
        """Return the time, on PostgreSQL the server's time, so that workers' clocks do not matter.

        On PostgreSQL, the time in a write transaction is always the time of the transaction's
        begin. SQLite runs on one machine and uses this machine's clock. Tests pass their own clock.
        """
        if self._clock is not None:
            return self._clock()
        if self.engine.dialect.name == "postgresql":
            connection = session if isinstance(session, Connection) else session.connection()
            writes = _writes(connection)
            value = connection.info[_BEGAN_AT] if writes else connection.scalar(_CLOCK)
            assert isinstance(value, datetime)
            return value.astimezone(UTC)
        return datetime.now(UTC)

    def check(self) -> None:
        """Raise Unavailable unless the database answers."""
        with self.read() as session:
            session.scalar(select(1))

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def connect(database_url: str, *, clock: Clock | None = None, pool_size: int = 10) -> Database:
    """Return the database at `database_url`; make SQLite's folder if it is missing."""
    return Database(make_engine(database_url, pool_size=pool_size), clock=clock)


def make_engine(database_url: str, *, pool_size: int = 10, patient: bool = False) -> Engine:
    """Return an engine with the options that this product needs for either database.

    `patient` leaves out the time limits, for migrations of large tables.
    """
    url = make_url(database_url)
    if url.get_backend_name() != "sqlite" and patient:
        return sqlalchemy.create_engine(url, connect_args={"connect_timeout": _CONNECT_SECONDS})
    if url.get_backend_name() != "sqlite":
        engine = sqlalchemy.create_engine(
            url,
            pool_size=pool_size,
            # No extra connections under load, because all processes share the server's fixed
            # number.
            max_overflow=0,
            pool_timeout=_POOL_SECONDS,
            pool_recycle=_RECYCLE_SECONDS,
            # LIFO, so that the extra connections of a burst become idle instead of being used in
            # turn.
            pool_use_lifo=True,
            connect_args=_POSTGRES_OPTIONS,
        )
        event.listen(engine, "do_connect", _connect_postgres)
        event.listen(engine, "begin", _begin_postgres)
        event.listen(engine, "checkin", _note_use)
        event.listen(engine, "checkout", partial(_ping_rested, engine.dialect))
        return engine
    if url.database:
        _make_folder(Path(url.database).parent)
    engine = sqlalchemy.create_engine(
        url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False}
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"The database's folder {folder} cannot be made ({error.strerror}). Set "
            "PERFUSION_DATA_DIR or PERFUSION_DATABASE_URL to a place where this user may write."
        ) from error


def _connect_postgres(
    dialect: Dialect, record: Any, arguments: list[Any], options: dict[str, Any]
) -> Any:
    # Imported late: the default, SQLite, needs no PostgreSQL driver.
    from service.database.postgres import BoundedConnection

    # _begin_postgres begins transactions; the driver must not.
    return BoundedConnection.connect(*arguments, **options, autocommit=True)


def _begin_postgres(connection: Connection) -> None:
    """Begin a write transaction and read the clock in the same round trip.

    A reader sees committed rows without a transaction, which saves two round trips.
    """
    if _writes(connection):
        began = connection.exec_driver_sql("SELECT clock_timestamp(); BEGIN")
        connection.info[_BEGAN_AT] = began.scalar()


def _note_use(_connection: Any, record: ConnectionPoolEntry) -> None:
    record.info["used_at_s"] = time.monotonic()


def _ping_rested(
    dialect: Dialect, connection: Any, record: ConnectionPoolEntry, _: PoolProxiedConnection
) -> None:
    """Check that an idle connection is alive; the pool replaces a dead connection."""
    used_at_s = record.info.get("used_at_s")
    if used_at_s is None or time.monotonic() - used_at_s < _TRUSTED_SECONDS:
        return  # new, or just used
    try:
        dialect.do_ping(connection)
    except dialect.loaded_dbapi.Error as error:
        raise DisconnectionError from error


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # _begin_sqlite begins transactions; the driver must not.
    connection.isolation_level = None
    cursor = connection.cursor()
    _use_wal(cursor)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _use_wal(cursor: sqlite3.Cursor) -> None:
    """Change to a write-ahead log; wait for other processes that open the same new file.

    SQLite itself does not wait here but reports "locked" at once, because two processes that both
    change the journal could deadlock.
    """
    give_up_at = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                raise
            time.sleep(_BUSY_POLL_SECONDS)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if _writes(connection) else "BEGIN")


def _writes(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get("writes"))


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors that mean "cannot serve now" into Unavailable."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        raise _unavailable(error) from error
    except DBAPIError as error:
        if error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _NOT_NOW:
            raise _unavailable(error) from error
        raise


def _unavailable(error: Exception) -> Unavailable:
    # Callers cannot tell a wrong password from a full disk, so the log names the cause.
    cause = str(getattr(error, "orig", error)).strip()
    _log.warning("database_fault", error=type(error).__name__, cause=cause.partition("\n")[0])
    return Unavailable(
        "database-unavailable",
        # The commit may have succeeded, so the sentence must not say that nothing happened.
        "The database cannot be reached now. Try again in a moment; with the same Idempotency-Key "
        "nothing is done twice.",
    )

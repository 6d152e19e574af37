"""The database: one engine, two kinds of transaction, one clock.

`read()` and `write()` each open one visible transaction. On SQLite a writer begins IMMEDIATE, so
that two writers wait for each other instead of failing in the middle. Errors of the driver that
mean "cannot serve now" leave this file as Unavailable; the rest are bugs and stay as they are.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, func, make_url, select
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, sessionmaker

from service.errors import Unavailable
from service.settings import SettingsError

BUSY_TIMEOUT_SECONDS = 10
Clock = Callable[[], datetime]
T = TypeVar("T")


class Database:
    """Sessions on one database, and its clock."""

    def __init__(self, engine: Engine, *, clock: Clock | None = None) -> None:
        self.engine = engine
        self._clock = clock
        self._readers = sessionmaker(engine, expire_on_commit=False)
        self._writers = sessionmaker(
            engine.execution_options(begin_immediate=True), expire_on_commit=False
        )

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a session that only reads, in one transaction."""
        with _translated(), self._readers() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a session that commits when the block ends and rolls back when it raises."""
        with _translated(), self._writers.begin() as session:
            yield session

    def run(self, act: Callable[[Session, datetime], T]) -> T:
        """Run `act` in a write transaction, with the time.

        It runs once more where another transaction took the same unique value in between: what
        that one wrote is visible now, so `act` sees it. Hence `act` writes rows and nothing else.
        """
        try:
            return self._run(act)
        except IntegrityError:
            return self._run(act)

    def _run(self, act: Callable[[Session, datetime], T]) -> T:
        with self.write() as session:
            result = act(session, self.now(session))
            session.flush()
        return result

    def now(self, session: Session) -> datetime:
        """Return the time: the server's on PostgreSQL, so that no worker's clock matters.

        SQLite has one machine and so one clock. Tests pass their own.
        """
        if self._clock is not None:
            return self._clock()
        if self.engine.dialect.name == "postgresql":
            value = session.scalar(select(func.clock_timestamp()))
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


def connect(database_url: str, *, clock: Clock | None = None) -> Database:
    """Return the database at `database_url`; SQLite's folder is made if it is missing."""
    return Database(make_engine(database_url), clock=clock)


def make_engine(database_url: str) -> Engine:
    """Return an engine with the options that this product needs on either database."""
    url = make_url(database_url)
    if url.get_backend_name() != "sqlite":
        return create_engine(
            url,
            pool_pre_ping=True,
            pool_size=10,
            max_overflow=20,
            pool_timeout=5,
            connect_args={"connect_timeout": 3},
        )
    if url.database:
        _make_folder(Path(url.database).parent)
    engine = create_engine(
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


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver must not begin transactions by itself: _begin_sqlite does.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("begin_immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        raise _unavailable() from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise _unavailable() from error
        raise


def _unavailable() -> Unavailable:
    return Unavailable(
        "database-unavailable",
        "The database cannot be reached now. Nothing was changed; try again in a moment.",
    )

"""Run the migrations in one transaction. Alembic loads this file."""

from alembic import context
from sqlalchemy import Connection, text

from migrations import BREAKING, COMPATIBLE
from service.database import engine as db
from service.database.tables import Base

# Any number that no other advisory lock of this database uses.
_ADVISORY_LOCK = 7_351_186
_LOCK_SECONDS = 20


def run() -> None:
    """Migrate the database named in the configuration's attributes."""
    engine = db.make_engine(context.config.attributes["database_url"], patient=True)
    try:
        # On SQLite the transaction begins with BEGIN IMMEDIATE, so a second process waits here.
        with engine.execution_options(writes=True).connect() as connection:
            _migrate(connection)
    finally:
        engine.dispose()


def _is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """Return whether to compare this table; the other series' version table is left out."""
    return not (kind == "table" and name in {BREAKING.version_table, COMPATIBLE.version_table})


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        version_table=context.config.attributes["version_table"],
        include_name=_is_ours,
        render_as_batch=True,
        transactional_ddl=True,
        compare_type=True,
        compare_server_default=True,
    )
    with connection.begin():
        if connection.dialect.name == "postgresql":
            # A second process waits here until the first one has finished.
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
            # The wait for a table's lock is short, because the service's statements queue behind
            # it.
            connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'"))
        with context.begin_transaction():
            context.run_migrations()


run()

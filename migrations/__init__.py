"""The migrations of the database (Alembic), for SQLite and PostgreSQL.

There are two series. The previous release cannot run after a new step of `versions`. It can run
after a new step of `compatible`, which only adds tables, and columns that are nullable or have a
server default. Each series stores its revision in its own table. A release refuses a database with
an unknown `alembic_version`, and runs on one with an unknown `compatible_version`. So after a
compatible step, an upgrade can be rolled out process by process, and taken back without a restore.

The compatible steps come after all steps of `versions`. If a new step of `versions` changes the
result of a compatible step, it must include the earlier compatible steps.
"""

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from service.database import engine as db

_HERE = Path(__file__).parent
_log = structlog.get_logger("perfusion.database")


@dataclass(frozen=True)
class Series:
    """Migrations in their order, and the table that stores the current revision."""

    folder: Path
    version_table: str


BREAKING = Series(_HERE / "versions", "alembic_version")
COMPATIBLE = Series(_HERE / "compatible", "compatible_version")


class State(Enum):
    """The state of a database's schema, compared with the schema of this release."""

    CURRENT = auto()
    BEHIND = auto()  # `upgrade` brings it to this release
    AHEAD_COMPATIBLE = auto()  # a newer release has migrated it, and this one can run on it
    AHEAD = auto()  # a newer release has migrated it, and this one cannot run on it


class NewerDatabase(Exception):
    """The database was migrated by a newer release, and this release cannot run on it."""

    def __init__(self) -> None:
        super().__init__(
            "This database belongs to a newer release, and this one cannot run on it. Start the "
            "newer release again, or restore the backup that was made before its migration."
        )


def upgrade(database_url: str) -> None:
    """Bring the database at `database_url` to this release; create SQLite's file if it is missing.

    Several processes may start at once: the first one migrates while the others wait. A database
    that a newer release has migrated compatibly stays as it is.

    Raises:
        NewerDatabase: this release cannot run on the database.
    """
    with db.translated():
        match state(database_url):
            case State.AHEAD:
                raise NewerDatabase
            case State.AHEAD_COMPATIBLE:
                _log.warning("database.newer", runs_on_it=True)
            case State.BEHIND:
                for series in (BREAKING, COMPATIBLE):
                    command.upgrade(config(database_url, series), "head")
            case State.CURRENT:
                pass


def downgrade(database_url: str, revision: str, *, series: Series = BREAKING) -> None:
    """Take the database back to `revision` of one series; `base` is before its first step.

    The compatible steps depend on the breaking ones, so a downgrade of the breaking series takes
    back all compatible steps first.
    """
    if series is BREAKING:
        command.downgrade(config(database_url, COMPATIBLE), "base")
    command.downgrade(config(database_url, series), revision)


def state(database_url: str) -> State:
    """Return how the schema of the database compares with that of this release."""
    engine = db.make_engine(database_url)
    try:
        with db.translated(), engine.connect() as connection:
            breaking = _state(connection, BREAKING)
            compatible = _state(connection, COMPATIBLE)
    finally:
        engine.dispose()
    if breaking is not State.CURRENT:
        return breaking
    return State.AHEAD_COMPATIBLE if compatible is State.AHEAD else compatible


def config(database_url: str, series: Series = BREAKING) -> Config:
    """Return Alembic's configuration of one series, which replaces alembic.ini."""
    settings = Config()
    settings.set_main_option("script_location", str(_HERE))
    settings.set_main_option("version_locations", str(series.folder))
    settings.set_main_option("path_separator", "os")
    settings.attributes["database_url"] = database_url
    settings.attributes["version_table"] = series.version_table
    return settings


def _state(connection: Connection, series: Series) -> State:
    """Return how far one series has run: CURRENT, BEHIND or AHEAD."""
    options = {"version_table": series.version_table}
    at = set(MigrationContext.configure(connection, opts=options).get_current_heads())
    scripts = ScriptDirectory.from_config(config("", series))
    if at == set(scripts.get_heads()):
        return State.CURRENT
    known = {script.revision for script in scripts.walk_revisions()}
    return State.BEHIND if at <= known else State.AHEAD

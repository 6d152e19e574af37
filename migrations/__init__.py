"""The database's schema, step by step (Alembic), for SQLite and PostgreSQL alike.

There are two series. `versions` holds the steps that the release before them cannot run on;
`compatible` holds the steps that it can: they add tables, and columns that are nullable or have a
server default. Each series keeps its revision in a table of its own. A release refuses a database
whose `alembic_version` it does not know, and runs on one whose `compatible_version` it does not
know. So an upgrade may be rolled out process by process, and taken back without a restore.

A compatible step follows all of `versions`. A new step in `versions` that needs to change what a
compatible one has made therefore takes over the compatible steps before it.
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
    """Migrations that follow each other, and the table that says how far they have run."""

    folder: Path
    version_table: str


BREAKING = Series(_HERE / "versions", "alembic_version")
COMPATIBLE = Series(_HERE / "compatible", "compatible_version")


class State(Enum):
    """How a database stands to this release."""

    CURRENT = auto()
    BEHIND = auto()  # `upgrade` brings it here
    AHEAD_COMPATIBLE = auto()  # a newer release has been here, and this one can run on it
    AHEAD = auto()  # a newer release has been here, and this one cannot run on it


class NewerDatabase(Exception):
    """The database belongs to a newer release, and this one cannot run on it."""

    def __init__(self) -> None:
        super().__init__(
            "This database belongs to a newer release, and this one cannot run on it. Start the "
            "newer release again, or restore the backup that was made before its migration."
        )


def upgrade(database_url: str) -> None:
    """Bring the database at `database_url` to this release; SQLite's file is made if missing.

    Several processes may start at once: the first one migrates, the others wait and find it done.
    A database that a newer release has changed compatibly stays as it is. Raises NewerDatabase.
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
    """Take the database back to `revision` of one series (`base`: before its first one).

    Compatible steps stand on the others, so these take back all compatible ones first.
    """
    if series is BREAKING:
        command.downgrade(config(database_url, COMPATIBLE), "base")
    command.downgrade(config(database_url, series), revision)


def state(database_url: str) -> State:
    """Return how the database stands to the schema that this release expects."""
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
    """Return Alembic's configuration of one series; there is no alembic.ini."""
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

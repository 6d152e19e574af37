"""The database's schema, step by step (Alembic), for SQLite and PostgreSQL alike."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from service import db


def upgrade(database_url: str, revision: str = "head") -> None:
    """Bring the database at `database_url` to `revision`; SQLite's file is made if missing.

    Several processes may start at once: the first one migrates, the others wait and find it done.
    """
    with db.translated():
        command.upgrade(config(database_url), revision)


def downgrade(database_url: str, revision: str) -> None:
    """Take the database back to `revision` (`base` for an empty one)."""
    command.downgrade(config(database_url), revision)


def is_current(database_url: str) -> bool:
    """Whether the database has the schema that this version of the code expects."""
    engine = db.make_engine(database_url)
    try:
        with db.translated(), engine.connect() as connection:
            at = MigrationContext.configure(connection).get_current_heads()
    finally:
        engine.dispose()
    heads = ScriptDirectory.from_config(config(database_url)).get_heads()
    return set(at) == set(heads)


def config(database_url: str) -> Config:
    """Return Alembic's configuration; there is no alembic.ini."""
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent))
    settings.attributes["database_url"] = database_url
    return settings

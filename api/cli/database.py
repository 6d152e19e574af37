"""Migrate the database of a command to this release's schema, or refuse the database."""

import time

import structlog

from api.cli.errors import CommandError
from service.database import engine
from service.errors import Unavailable
from service.settings.environment import Settings

_PATIENCE_SECONDS = 30.0
_PAUSE_SECONDS = 1.0
log = structlog.get_logger("perfusion.api")


def is_embedded(settings: Settings) -> bool:
    """Return whether one process is the whole deployment: server, worker and queue."""
    return settings.queue_url == "memory://"


def await_server(
    settings: Settings,
    *,
    patience_seconds: float = _PATIENCE_SECONDS,
    pause_seconds: float = _PAUSE_SECONDS,
) -> None:
    """Wait for a database that is not ready yet, for example while the machine starts.

    Raise Unavailable if the database is not ready in time. Do not wait for SQLite, because waiting
    does not create SQLite's file.
    """
    if settings.database_url.startswith("sqlite"):
        return
    give_up_at = time.monotonic() + patience_seconds
    database = engine.connect(settings.database_url)
    try:
        while True:
            try:
                database.check()
                return
            except Unavailable:
                left_seconds = give_up_at - time.monotonic()
                if left_seconds <= 0:
                    raise
                log.warning("database.awaited", seconds_left=round(left_seconds))
                time.sleep(pause_seconds)
    finally:
        database.close()


def migrate(settings: Settings) -> None:
    """Migrate the database to this release's schema; raise CommandError for a newer database."""
    import migrations

    try:
        migrations.upgrade(settings.database_url)
    except migrations.NewerDatabase as error:
        raise CommandError(str(error)) from error


def make_ready(settings: Settings) -> None:
    """Migrate if one process owns the database; otherwise require `perfusion migrate`."""
    from migrations import NewerDatabase, State, state

    if is_embedded(settings):
        migrate(settings)
        return
    match state(settings.database_url):
        case State.BEHIND:
            raise CommandError(
                "The database does not have this release's form. Run `perfusion migrate` first."
            )
        case State.AHEAD:
            raise CommandError(str(NewerDatabase()))
        case State.AHEAD_COMPATIBLE:
            log.warning("database.newer", runs_on_it=True)
        case State.CURRENT:
            pass

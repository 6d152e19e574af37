"""The database that a command finds: brought to this release's form, or refused."""

from api.cli.commands import CommandError
from service.settings import Settings


def is_embedded(settings: Settings) -> bool:
    """Whether one process is the whole deployment: server, worker and queue."""
    return settings.queue_url == "memory://"


def make_ready(settings: Settings) -> None:
    """Migrate where one process owns the database; elsewhere that is `perfusion migrate`'s."""
    import migrations

    if is_embedded(settings):
        migrations.upgrade(settings.database_url)
    elif not migrations.is_current(settings.database_url):
        raise CommandError(
            "The database does not have this release's form. Run `perfusion migrate` first."
        )

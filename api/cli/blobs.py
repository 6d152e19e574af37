"""`perfusion blobs`: an operator's commands for the blob store, which need no server."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated

import typer

from api.cli import database
from api.cli.errors import CommandError
from service import deployment, log, wiring
from service.garbage import collection
from service.settings import environment
from service.wiring import Service

app = typer.Typer(
    help="Remove files that no row names, or make database and blob store belong together.",
    no_args_is_help=True,
)


@app.command()
def adopt() -> None:
    """Make this server's database and blob store belong together from now on.

    Use `adopt` for a new database with old files, or for an empty store after the old store was
    lost. The command removes no file. Later collections remove the files that no row of this
    database names.
    """
    with _service() as service:
        identity = deployment.adopt(service)
        found = collection.survey(service)
    typer.echo(f"This database and this blob store are {identity} from now on.")
    if found.held_back:
        typer.echo(collection.held_back_sentence(found), err=True)
    elif found.orphan_count:
        typer.echo(
            f"No row names {found.orphan_count} of the {found.stored} files in the blob store: "
            "the next collection removes them. Copy them elsewhere first if you need them "
            "(`perfusion blobs collect --dry-run` lists them).",
            err=True,
        )


@app.command()
def collect(
    *,
    all_: Annotated[
        bool, typer.Option("--all", help="Remove them, however many they are.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List them and remove none.")] = False,
    grace: Annotated[
        float,
        typer.Option(
            min=0,
            help="Leave alone files that are younger than this, in seconds. Stop servers and "
            "workers before you go below the default.",
        ),
    ] = collection.GRACE.total_seconds(),
) -> None:
    """List the files that no row names, one key a line, and then remove them.

    If more than 20 files and more than a tenth of the store have no row, rows are probably missing.
    With so many files without rows, the command removes nothing and ends with exit code 1, unless
    you give --all.
    """
    with _service() as service:
        deployment.check(service)
        found = collection.survey(service, grace=timedelta(seconds=grace))
        for key in found.orphans:
            typer.echo(key)
        if dry_run:
            typer.echo(
                f"No row names {found.orphan_count} of {found.stored} files. None was removed.",
                err=True,
            )
            return
        if found.held_back and not all_:
            raise CommandError(collection.held_back_sentence(found))
        removed = collection.remove(service, found)
    typer.echo(f"Removed {removed} files of {found.stored}.", err=True)


@contextmanager
def _service() -> Iterator[Service]:
    chosen = environment.load()
    database.make_ready(chosen)
    log.configure(chosen)  # after the migrations, whose log lines are not needed here
    service = wiring.build(chosen)
    try:
        yield service
    finally:
        service.close()

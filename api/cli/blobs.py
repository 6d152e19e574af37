"""`perfusion blobs`: what an operator decides about the blob store, straight in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated

import typer

from api.cli import database
from api.cli.commands import CommandError
from service import collector, deployment, log, settings, wiring
from service.wiring import Service

app = typer.Typer(
    help="Clear up the store of pictures and files, or say which database it belongs to.",
    no_args_is_help=True,
)


@app.command()
def adopt() -> None:
    """Make this database and this blob store belong together from now on.

    For a store that was moved, or a database that was restored or begun anew. No file is removed.
    """
    with _service() as service:
        identity = deployment.adopt(service)
        found = collector.survey(service)
    typer.echo(f"This database and this blob store are {identity} from now on.")
    if found.held_back:
        typer.echo(collector.held_back_sentence(found), err=True)


@app.command()
def collect(
    *,
    all_: Annotated[bool, typer.Option("--all", help="Remove them however many they are.")] = False,
    dry_run: Annotated[bool, typer.Option(help="List them and remove none.")] = False,
    grace: Annotated[
        float,
        typer.Option(
            min=0,
            help="Seconds for which a file may wait for its row. With less than the default, "
            "stop servers and workers first.",
        ),
    ] = collector.GRACE.total_seconds(),
) -> None:
    """List the files that no row names, one key a line, and then remove them.

    Without --all, more than 20 files and a tenth of the store are left alone (exit code 1): then
    rows may be missing, and not files left over.
    """
    with _service() as service:
        deployment.check(service)
        found = collector.survey(service, grace=timedelta(seconds=grace))
        for key in found.orphans:
            typer.echo(key)
        if dry_run:
            typer.echo(f"{found.orphan_count} of {found.stored} files; none removed.", err=True)
            return
        if found.held_back and not all_:
            raise CommandError(collector.held_back_sentence(found))
        removed = collector.remove(service, found)
    typer.echo(f"Removed {removed} files of {found.stored}.", err=True)


@contextmanager
def _service() -> Iterator[Service]:
    chosen = settings.load()
    database.make_ready(chosen)
    log.configure(chosen)  # after the migrations, which say much
    service = wiring.build(chosen)
    try:
        yield service
    finally:
        service.close()

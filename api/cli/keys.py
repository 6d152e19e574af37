"""`perfusion keys`: make, list and revoke API keys, directly in the database."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from api.cli import database
from service import auth, wiring
from service.auth import Scope
from service.settings import environment
from service.wiring import Service

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)

_DEFAULT_SCOPES = sorted(auth.DEFAULT_SCOPES)


@app.command()
def create(
    label: Annotated[str, typer.Argument(help="Who or what uses the key.")],
    owner: Annotated[
        str | None,
        typer.Option(
            help="Owner whose objects the key may use, as listed; `local` owns objects made "
            "without keys. Default: a new owner.",
        ),
    ] = None,
    scope: Annotated[
        list[Scope],
        typer.Option(help="What the key may do; repeat the option for several scopes."),
    ] = _DEFAULT_SCOPES,
) -> None:
    """Make a key and print it once, because only its hash is kept."""
    with _service() as service:
        key, view = auth.create_key(service, label=label, owner_id=owner, scopes=scope)
    typer.echo(key)
    typer.echo(
        f"Key {view.id} of owner {view.owner_id} for {', '.join(view.scopes)}. "
        "It is not shown again: keep it now.",
        err=True,
    )


@app.command("list")
def list_() -> None:
    """List the keys, newest first, without their secrets."""
    with _service() as service:
        keys = auth.list_keys(service)
    table = Table("id", "begins with", "label", "owner", "scopes", "created", "revoked")
    for key in keys:
        revoked = "" if key.revoked_at is None else f"{key.revoked_at:%Y-%m-%d %H:%M}"
        created = f"{key.created_at:%Y-%m-%d %H:%M}"
        scopes = " ".join(key.scopes)
        table.add_row(key.id, key.prefix, key.label, key.owner_id, scopes, created, revoked)
    Console().print(table)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key's id, or what it begins with, as listed.")],
) -> None:
    """Revoke a key at once."""
    with _service() as service:
        auth.revoke_key(service, key)
    typer.echo(f"Revoked {key}.")


@contextmanager
def _service() -> Iterator[Service]:
    chosen = environment.load()
    database.make_ready(chosen)
    service = wiring.build(chosen)
    try:
        yield service
    finally:
        service.close()

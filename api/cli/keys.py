"""`perfusion keys`: API keys and the secrets of webhooks, directly in the database."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from api.cli import database
from api.cli.errors import CommandError
from service import auth, wiring
from service.auth import Scope
from service.settings import environment
from service.webhooks import signatures
from service.wiring import Service

app = typer.Typer(
    help="Make, list and revoke API keys; show webhooks' secrets.", no_args_is_help=True
)

_COLUMNS = ("id", "begins with", "label", "owner", "scopes", "created", "revoked")
_WIDE = 1000
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
    new_owner: Annotated[
        str | None, typer.Option(help="Name of a new owner, in place of a generated one.")
    ] = None,
    scope: Annotated[
        list[Scope],
        typer.Option(help="What the key may do; repeat the option for several scopes."),
    ] = _DEFAULT_SCOPES,
) -> None:
    """Make a key and print it once, because only its hash is kept."""
    if owner is not None and new_owner is not None:
        raise CommandError("Give --owner or --new-owner, not both.")
    with _service() as service:
        if owner is not None and not auth.owner_exists(service, owner):
            raise CommandError(
                f"There is no owner {owner!r}: `perfusion keys list` shows the owners. Leave "
                "--owner out for a new owner, or name the new owner with --new-owner."
            )
        if new_owner is not None and auth.owner_exists(service, new_owner):
            raise CommandError(
                f"The owner {new_owner!r} exists: --owner gives a key to an owner's objects."
            )
        key, view = auth.create_key(service, label=label, owner_id=owner or new_owner, scopes=scope)
    typer.echo(key)
    typer.echo(
        f"Key {view.id} of owner {view.owner_id} for {', '.join(view.scopes)}. "
        "It is not shown again: keep it now.",
        err=True,
    )


@app.command("list")
def list_() -> None:
    """List the keys, newest first, without their secrets; to a pipe as lines with tabs."""
    with _service() as service:
        keys = auth.list_keys(service)
    table = Table(*_COLUMNS, box=None)
    for key in keys:
        revoked = "" if key.revoked_at is None else f"{key.revoked_at:%Y-%m-%dT%H:%MZ}"
        created = f"{key.created_at:%Y-%m-%dT%H:%MZ}"
        row = key.id, key.prefix, key.label, key.owner_id, " ".join(key.scopes), created, revoked
        if _to_terminal():
            table.add_row(*row)
        else:
            typer.echo("\t".join(row))
    if _to_terminal():
        # A narrow terminal wraps the lines. A table of its width would cut the ids.
        Console(width=_WIDE).print(table)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key's id, or what it begins with, as listed.")],
) -> None:
    """Revoke a key at once."""
    with _service() as service:
        auth.revoke_key(service, key)
    typer.echo(f"Revoked {key}.")


@app.command("webhook-secret")
def webhook_secret(
    owner: Annotated[
        str, typer.Option(help="Owner, as listed; `local` owns jobs made without keys.")
    ] = auth.LOCAL_OWNER,
    rotate: Annotated[
        bool, typer.Option(help="Make a new secret; for a day the old one signs as well.")
    ] = False,
) -> None:
    """Print the secret that signs an owner's webhooks; the first call makes it."""
    with _service() as service:
        if not auth.owner_exists(service, owner):
            raise CommandError(
                "There is no owner of this name. `perfusion keys list` shows the owners."
            )
        secret = signatures.secret(service, owner, rotate=rotate)
    typer.echo(secret)


def _to_terminal() -> bool:
    return sys.stdout.isatty()


@contextmanager
def _service() -> Iterator[Service]:
    chosen = environment.load()
    database.make_ready(chosen)
    service = wiring.build(chosen)
    try:
        yield service
    finally:
        service.close()

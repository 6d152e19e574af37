"""Build the command line. Each command has its own module and imports torch late or never."""

from typing import Annotated

import typer

from api.cli import blobs, check, demo, health, keys, prepare, serve, train
from api.cli.generating import edit, generate
from api.cli.sharing import browser_page, export, inspect, push
from perfusion_core.imaging.provenance import product_version


def build() -> typer.Typer:
    """Return the whole command line."""
    app = typer.Typer(
        name="perfusion",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        epilog="Settings come from the environment, PERFUSION_...; see docs/settings.md.",
    )
    app.callback()(_options)
    app.command()(serve.serve)
    app.command()(serve.worker)
    app.command()(serve.migrate)
    app.command()(health.health)
    app.command()(check.check)
    app.command()(train.train)
    app.command()(generate.generate)
    app.command()(edit.edit)
    app.command()(prepare.prepare)
    app.command()(export.export)
    app.command()(inspect.inspect)
    app.command()(push.push)
    app.command()(browser_page.browser_page)
    app.add_typer(keys.app, name="keys")
    app.add_typer(blobs.app, name="blobs")
    app.command()(demo.demo)
    return app


def _options(
    _: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version.",
            is_eager=True,
            callback=lambda wanted: _print_version() if wanted else None,
        ),
    ] = False,
) -> None:
    """Teach a frozen text-to-image model a subject, then compose it at any strength."""


def _print_version() -> None:
    typer.echo(f"perfusion {product_version()}")
    raise typer.Exit

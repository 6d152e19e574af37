"""Build the command line. Each command has its own module and imports torch late or never."""

import typer

from api.cli import blobs, demo, health, keys, library, serve


def build() -> typer.Typer:
    """Return the whole command line."""
    app = typer.Typer(
        name="perfusion",
        help="Teach a frozen text-to-image model a subject, then compose it at any strength.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        epilog="Settings come from the environment, PERFUSION_...; see docs/settings.md.",
    )
    app.command()(serve.serve)
    app.command()(serve.worker)
    app.command()(serve.migrate)
    app.command()(health.health)
    app.command()(library.train)
    app.command()(library.generate)
    app.command()(library.prepare)
    app.add_typer(keys.app, name="keys")
    app.add_typer(blobs.app, name="blobs")
    app.command()(demo.demo)
    return app

"""`perfusion serve`, `worker` and `migrate`: the processes of a deployment.

Each command imports its modules inside its function, because a health check every minute should
load neither a web framework nor a worker.
"""

import gc
import logging
import os
import signal
import socket
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli import database
from api.cli.errors import CommandError
from service import auth, deployment, log, tracing, wiring
from service.settings import environment
from service.settings.environment import Settings
from service.wiring import Service
from worker.metadata import metadata_of

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

# Seconds that open requests get after a signal; event streams end at once.
_GRACE_SECONDS = 10


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
) -> None:
    """Serve the API and the page; with memory:// as the queue, also run the worker."""
    from api.app import create_app

    chosen = environment.load()
    log.configure(chosen)
    send_traces = tracing.configure("perfusion-api")
    database.await_server(chosen)
    database.make_ready(chosen)
    embedded = database.is_embedded(chosen)
    if embedded:
        metadata_of(chosen)  # a certificate that cannot sign ends the start with a sentence
    service = wiring.build(chosen)
    try:
        deployment.check_at_start(service)
        key_required = _require_key(service, host)
        app = create_app(service, embedded=embedded, repair=not embedded, key_required=key_required)
        listener = _listen(host, port)
        bound = listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        typer.echo(f"Perfusion at http://{shown}:{bound} (Ctrl+C stops it)", err=True)
        server = build_server(app, chosen)
        # The current objects live as long as the process. Without freezing them, Python's garbage
        # collector goes through all of them from time to time and blocks requests for 0.15 s.
        gc.freeze()
        for number in (signal.SIGINT, signal.SIGTERM):
            # uvicorn handles signals while it runs and raises them again after it has stopped.
            signal.signal(number, _do_nothing)
        server.run(sockets=[listener])
        if not server.started:
            raise CommandError("The server did not start; the lines above say why.")
    finally:
        service.close()
        send_traces()
    if server.lifespan.shutdown_failed:
        # A hanging thread must not keep the process alive. Its job's lease expires by itself.
        logging.shutdown()
        os._exit(1)


def build_server(app: "FastAPI", chosen: Settings) -> "uvicorn.Server":
    """Return the server of `app`; the server's `run` takes the socket to listen on."""
    import uvicorn

    from api.limits import connections

    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=connections.protocol(descriptors=connections.raise_descriptor_limit()),
            ws="none",
            log_config=None,
            access_log=False,  # the application logs requests itself, with their ids
            server_header=False,
            # Trust only these proxies: otherwise a caller could choose the address that the limits
            # count.
            forwarded_allow_ips=list(chosen.trusted_proxies),
            timeout_graceful_shutdown=_GRACE_SECONDS,
            lifespan="on",
        )
    )


def worker(
    queues: Annotated[
        str, typer.Option(help="The jobs to take: generate, train or both, with a comma.")
    ] = "generate,train",
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=64, help="Generations at once on the device.")
    ] = None,
) -> None:
    """Run a worker in a process of its own; the queue must be redis://."""
    chosen = environment.load()
    log.configure(chosen)
    names = tuple(dict.fromkeys(name.strip() for name in queues.split(",")))
    if unknown := sorted(set(names) - {"generate", "train"}):
        raise CommandError(f"There is no queue {unknown[0]!r}: choose generate, train or both.")
    if concurrency is not None and "generate" not in names:
        raise CommandError(
            "--concurrency is the number of generations at once, and this worker takes none: leave "
            "it out. Trainings run one at a time."
        )
    if database.is_embedded(chosen):
        raise CommandError(
            "With PERFUSION_QUEUE_URL=memory:// the worker runs inside `perfusion serve`. "
            "Set it to redis://... to run workers of their own."
        )
    from worker import main

    send_traces = tracing.configure("perfusion-worker")
    try:
        main.run(chosen, queues=names, concurrency=concurrency)
    finally:
        send_traces()


def migrate() -> None:
    """Migrate the database to this release's schema; safe to repeat."""
    chosen = environment.load()
    log.configure(chosen)
    database.migrate(chosen)
    typer.echo("The database has this release's form.")


def _require_key(service: Service, host: str) -> bool:
    """Return whether callers need a key; refuse other machines if no key exists yet."""
    from api.access.auth import is_loopback

    chosen = service.settings
    if not is_loopback(host) and chosen.auth == "off":
        raise CommandError(
            f"PERFUSION_AUTH=off is for loopback only, and {host} is not: "
            "remove it, or serve on 127.0.0.1."
        )
    auth.ensure_bootstrap_key(service)
    required = auth.required(chosen, host=host)
    if required and not any(key.revoked_at is None for key in auth.list_keys(service)):
        raise CommandError(
            f"Callers on {host} need an API key, and there is none yet. Make one with "
            "`perfusion keys create LABEL`, or set PERFUSION_BOOTSTRAP_KEY."
        )
    return required


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Ignore the signal, so that the exit code is 0: the server has already shut down normally."""


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # The address is printed before the server starts: until then connections wait.
        listener.listen()
    except OSError as error:
        listener.close()
        raise CommandError(
            f"Cannot listen on {host}, port {port}: {error.strerror or error}. "
            "Choose another with --host and --port."
        ) from error
    return listener

"""`perfusion demo`: start a server, teach it two toys over REST, and draw a contact sheet."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from api.cli.errors import CommandError
from api.cli.progress import progress_bar

_START_SECONDS = 180
_STOP_SECONDS = 60


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder to write into; its demo files are replaced.")
    ] = Path("demo"),
) -> None:
    """Teach two drawn toys, generate with them, and write photos, images and a contact sheet."""
    from api.demo.client import Client, RequestRefused
    from api.demo.journey import Journey

    begun_s = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    with server(out) as url:
        started_s = time.perf_counter() - begun_s
        journey = Journey(Client(url), out, progress_bar)
        try:
            file = journey.run()
        except RequestRefused as error:
            raise CommandError(f"{error} The server's log is {out / 'server.log'}.") from error
    for part, seconds in {"starting the server": started_s, **journey.seconds}.items():
        typer.echo(f"{seconds:6.1f} s  {part}")
    typer.echo(f"{time.perf_counter() - begun_s:6.1f} s  in all")
    typer.echo(f"Look at {file}")


@contextmanager
def server(out: Path) -> Iterator[str]:
    """Run a server of this release with an empty data folder below `out`; yield its address."""
    data = out / ".data"
    shutil.rmtree(data, ignore_errors=True)
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    # The caller chooses the model and the device; the demo chooses its own data folder.
    kept = ("PERFUSION_BASE_MODEL", "PERFUSION_DEVICE")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PERFUSION_") or name in kept
    }
    environment["PERFUSION_DATA_DIR"] = str(data)
    log = out / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "api", "serve", "--port", str(port)],
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_ready(process, url, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        shutil.rmtree(data, ignore_errors=True)


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    import httpx2 as httpx  # imported late: no other command needs it

    deadline = time.monotonic() + _START_SECONDS
    with progress_bar("Starting the server", total=None):
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise CommandError(f"The server ended at once; {log} says why.")
            try:
                if httpx.get(f"{url}/readyz", timeout=5, trust_env=False).is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.3)
    raise CommandError(f"The server was not ready after {_START_SECONDS} s; see {log}.")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

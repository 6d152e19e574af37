"""Measure how long a caller waits until `POST /generate` is accepted, at a constant rate.

    python -m benchmarks.servers.load [--per-second 100] [--seconds 20] [--rounds 3] [--processes 2]
    python -m benchmarks.servers.load --database sqlite --connections 200 --per-second 60

The benchmark starts PostgreSQL (with fsync) and Redis, or uses a file of SQLite and the queue in
memory. Then it starts --processes of `perfusion serve`, which get the requests in turn, and an
application that only makes one INSERT (`benchmarks.servers.load_floor`). Each of the four callers
has a key, a concept and sufficient limits. Both applications get the same requests in turn. The
ratio of their times says what it costs to accept a job, compared with the least possible.

Each round begins with an empty queue, and no worker takes a job from it. The worker inside a
process on SQLite sleeps, because its base model is missing.
"""

import argparse
import secrets
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from benchmarks.servers import load_client
from benchmarks.servers.load_client import Measured
from service import auth
from service.wiring import Service
from tests.integration.stack import servers
from tests.integration.stack.deployment import Api, Deployment
from tests.integration.stack.processes import free_ports
from tests.integration.stack.servers import Postgres
from tests.unit.service import staging

_BODY = b'{"prompt": "a photo of <teddy:0.7> on the beach", "num_images": 2}'
_WARM_UP_REQUESTS = 50
_CALLERS = 4


@dataclass(frozen=True)
class _Setting:
    """The servers of a deployment, and a function that empties its queue."""

    environment: dict[str, str]
    empty: Callable[[], None]


def main() -> None:
    """Print p50 and p99 of both applications, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database", choices=("postgres", "sqlite"), default="postgres")
    parser.add_argument(
        "--connections", type=int, default=0, help="number kept open; 0: as few as suffice"
    )
    parser.add_argument("--per-second", type=float, default=100)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--processes", type=int, help="number of API processes; default: 2, and 1 on SQLite"
    )
    arguments = parser.parse_args()
    on_sqlite = arguments.database == "sqlite"
    arguments.processes = arguments.processes or (1 if on_sqlite else 2)
    with (
        tempfile.TemporaryDirectory() as folder,
        _sqlite(Path(folder)) if on_sqlite else _servers() as setting,
    ):
        deployment = Deployment(
            Path(folder),
            setting.environment,
            auth="required",
            log_level="info",
            requests_per_minute=1_000_000,
            max_queued_jobs_per_owner=100_000,
        )
        try:
            _compare(deployment, arguments, setting)
        finally:
            deployment.close()


@contextmanager
def _servers() -> Iterator[_Setting]:
    """Run PostgreSQL and Redis."""
    with servers.postgres() as postgres, servers.redis() as redis:
        make_durable(postgres)
        url = postgres.new_database()

        def empty() -> None:
            with postgres.connect(url) as connection:
                connection.execute("TRUNCATE jobs, job_events, images")

        yield _Setting({"PERFUSION_DATABASE_URL": url, "PERFUSION_QUEUE_URL": redis.url}, empty)


@contextmanager
def _sqlite(folder: Path) -> Iterator[_Setting]:
    """Use a file of SQLite and the queue in memory, with a worker that sleeps."""
    file = folder / "perfusion.db"

    def empty() -> None:
        with closing(sqlite3.connect(file, timeout=30)) as connection:
            for table in ("images", "job_events", "jobs"):
                connection.execute(f"DELETE FROM {table}")
            connection.commit()

    nowhere = str(folder / "no-base-model")
    yield _Setting(
        {"PERFUSION_DATABASE_URL": f"sqlite:///{file}", "PERFUSION_BASE_MODEL": nowhere}, empty
    )


def make_durable(postgres: Postgres) -> None:
    """Restart the server with fsync, as in production; the tests run without it."""
    postgres.stop()
    command = postgres.process.command
    command[command.index("fsync=off")] = "fsync=on"
    postgres.start()


def _compare(deployment: Deployment, arguments: argparse.Namespace, setting: _Setting) -> None:
    deployment.migrate()
    service = deployment.service()
    staging.register_base_model(service)
    keys = [_caller(service) for _ in range(_CALLERS)]
    requests = load_client.posts("/generate", _BODY, keys=keys)
    service.close()
    secret = secrets.token_hex(32)
    apis = [deployment.api(link_secret=secret) for _ in range(arguments.processes)]
    (port,) = free_ports(1)
    floor = [
        Api(deployment.process("floor", ["-m", "benchmarks.servers.load_floor", str(port)]), port)
    ]
    for side in (apis, floor):
        for each in side:
            each.start()
            load_client.run([each.port], requests, per_second=25, seconds=_WARM_UP_REQUESTS / 25)
    print(f"{arguments.per_second:g} requests a second for {arguments.seconds:g} s")
    ratios = []
    for _ in range(arguments.rounds):
        measured, cores = [], []
        setting.empty()
        for side in (floor, apis):
            before = _cpu_seconds(side)
            measured.append(
                load_client.run(
                    [api.port for api in side],
                    requests,
                    per_second=arguments.per_second,
                    seconds=arguments.seconds,
                    connections=arguments.connections,
                )
            )
            cores.append(_cpu_seconds(side) - before)
        ratios.append(_report(*measured, cpu_seconds=cores))
    p50, p99 = (median(each) for each in zip(*ratios, strict=True))
    print(f"median of {len(ratios)} rounds: p50 {p50:.1f} x, p99 {p99:.1f} x one INSERT")


def _caller(service: Service) -> str:
    """Make a caller with a concept, and return the key."""
    key, made = auth.create_key(service, label="load")
    staging.ready(service, "teddy", owner_id=made.owner_id)
    return key


def _cpu_seconds(apis: Sequence[Api]) -> float:
    times = [psutil.Process(api.process.pid).cpu_times() for api in apis]
    return sum(each.user + each.system for each in times)


def _report(floor: Measured, api: Measured, *, cpu_seconds: Sequence[float]) -> tuple[float, float]:
    """Print one round; return the ratios of p50 and p99."""
    names = ("one INSERT", "POST /generate")
    for name, measured, seconds in zip(names, (floor, api), cpu_seconds, strict=True):
        accepted = measured.statuses.get(202, 0)
        answered = sum(measured.statuses.values())
        print(
            f"{name:>15}: p50 {measured.milliseconds(50):6.1f} ms, "
            f"p99 {measured.milliseconds(99):6.1f} ms, {accepted} accepted, "
            f"{answered - accepted} refused, {1000 * seconds / answered:.1f} ms of processor each"
        )
    p50, p99 = (api.milliseconds(p) / floor.milliseconds(p) for p in (50, 99))
    print(f"{'ratio':>15}: p50 {p50:6.1f}     p99 {p99:6.1f}", flush=True)
    return p50, p99


if __name__ == "__main__":
    main()

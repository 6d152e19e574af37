"""How long a caller waits until `POST /generate` is accepted, at a constant rate.

    python -m benchmarks.load [--per-second 100] [--seconds 20] [--rounds 3] [--processes 2]

Starts PostgreSQL (with fsync) and Redis, `perfusion serve` with four callers, each with a key, a
concept and limits as wide as she needs (as many processes of it as --processes says, which get the
requests by turns), and beside it an application that makes one INSERT and nothing else
(`benchmarks.load_floor`). Both get the same requests by turns; the ratio of the two says what
accepting a job costs over the least possible. Each round begins with an empty queue, and no worker
takes anything from it.
"""

import argparse
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks import load_client
from benchmarks.load_client import Measured
from service import auth
from service.wiring import Service
from tests.integration import servers
from tests.integration.deployment import Api, Deployment
from tests.integration.processes import free_ports
from tests.integration.servers import Postgres
from tests.unit.service import staging

_BODY = b'{"prompt": "a photo of <teddy:0.7> on the beach", "num_images": 2}'
_WARM_UP_REQUESTS = 50
_CALLERS = 4


def main() -> None:
    """Print p50 and p99 of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--per-second", type=float, default=100)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2, help="of the API")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, servers.postgres() as postgres:
        make_durable(postgres)
        with servers.redis() as redis:
            deployment = Deployment(
                Path(folder),
                {
                    "PERFUSION_DATABASE_URL": postgres.new_database(),
                    "PERFUSION_QUEUE_URL": redis.url,
                },
                auth="required",
                log_level="info",
                requests_per_minute=1_000_000,
                max_queued_jobs_per_owner=100_000,
            )
            try:
                _compare(deployment, arguments, postgres)
            finally:
                deployment.close()


def make_durable(postgres: Postgres) -> None:
    """Let every commit reach the disk, as in production; tests go without."""
    postgres.stop()
    command = postgres.process.command
    command[command.index("fsync=off")] = "fsync=on"
    postgres.start()


def _compare(deployment: Deployment, arguments: argparse.Namespace, postgres: Postgres) -> None:
    url = deployment.environment["PERFUSION_DATABASE_URL"]
    deployment.migrate()
    service = deployment.service()
    staging.register_base_model(service)
    keys = [_caller(service) for _ in range(_CALLERS)]
    service.close()
    secret = secrets.token_hex(32)
    apis = [deployment.api(link_secret=secret) for _ in range(arguments.processes)]
    (port,) = free_ports(1)
    floor = [Api(deployment.process("floor", ["-m", "benchmarks.load_floor", str(port)]), port)]
    for side in (apis, floor):
        for each in side:
            each.start()
            _send([each], keys, per_second=25, seconds=_WARM_UP_REQUESTS / 25)
    print(f"{arguments.per_second:g} requests a second for {arguments.seconds:g} s")
    for _ in range(arguments.rounds):
        measured, cores = [], []
        with postgres.connect(url) as connection:
            connection.execute("TRUNCATE jobs, job_events, images")
        for side in (floor, apis):
            before = _cpu_seconds(side)
            measured.append(
                _send(side, keys, per_second=arguments.per_second, seconds=arguments.seconds)
            )
            cores.append(_cpu_seconds(side) - before)
        _report(*measured, cpu_seconds=cores)


def _caller(service: Service) -> str:
    """Make a caller with a concept, and return her key."""
    key, made = auth.create_key(service, label="load")
    staging.ready(service, "teddy", owner_id=made.owner_id)
    return key


def _send(
    apis: Sequence[Api], keys: Sequence[str], *, per_second: float, seconds: float
) -> Measured:
    return load_client.run(
        [api.port for api in apis],
        path="/generate",
        body=_BODY,
        keys=keys,
        per_second=per_second,
        seconds=seconds,
    )


def _cpu_seconds(apis: Sequence[Api]) -> float:
    times = [psutil.Process(api.process.pid).cpu_times() for api in apis]
    return sum(each.user + each.system for each in times)


def _report(floor: Measured, api: Measured, *, cpu_seconds: Sequence[float]) -> None:
    names = ("one INSERT", "POST /generate")
    for name, measured, seconds in zip(names, (floor, api), cpu_seconds, strict=True):
        accepted = measured.statuses.get(202, 0)
        answered = sum(measured.statuses.values())
        print(
            f"{name:>15}: p50 {measured.milliseconds(50):6.1f} ms, "
            f"p99 {measured.milliseconds(99):6.1f} ms, {accepted} accepted, "
            f"{answered - accepted} refused, {1000 * seconds / answered:.1f} ms of processor each"
        )
    ratios = [api.milliseconds(p) / floor.milliseconds(p) for p in (50, 99)]
    print(f"{'ratio':>15}: p50 {ratios[0]:6.1f}     p99 {ratios[1]:6.1f}")


if __name__ == "__main__":
    main()

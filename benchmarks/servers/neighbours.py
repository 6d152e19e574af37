"""Measure what one owner's uploads and imports cost another owner's small requests.

    python -m benchmarks.servers.neighbours [--seconds 60] [--uploads 4] [--imports 40] [--rude]

The benchmark starts PostgreSQL, Redis and one `perfusion serve`, without a worker. One owner sends
`GET /jobs` and `POST /generate`, five a second each: first alone, then while another owner keeps 4
uploads of 20 photos of 48 megapixels (240 MiB) and 40 imports in flight
(`benchmarks.servers.noisy_owner`). The other owner repeats a refused request when its Retry-After
has passed, or at once with --rude. Rate limits are high enough not to matter.

The memory is the peak of the process and its decoders together, sampled; uploads that are being
read are in files next to it.

The bar: no 5xx, and a p99 of at most 100 ms or twice the p99 of the quiet phase, whichever is
larger.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import psutil

from benchmarks.servers import load_client
from benchmarks.servers.load_client import Measured
from service import auth
from tests.integration.stack import servers
from tests.integration.stack.deployment import ROOT, Deployment
from tests.unit.service import staging

_PER_SECOND = 10.0
_BODY = b'{"prompt": "a photo of <teddy:0.7> on the beach"}'
_BAR_MILLISECONDS = 100.0
_SAMPLE_SECONDS = 0.1


def main() -> None:
    """Print both phases and the bar."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--uploads", type=int, default=4)
    parser.add_argument("--imports", type=int, default=40)
    parser.add_argument("--rude", action="store_true", help="ignore Retry-After")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        servers.postgres() as postgres,
        servers.redis() as redis,
    ):
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
            _compare(deployment, arguments)
        finally:
            deployment.close()


def _compare(deployment: Deployment, arguments: argparse.Namespace) -> None:
    deployment.migrate()
    service = deployment.service()
    staging.register_base_model(service)
    key, made = auth.create_key(service, label="small")
    staging.ready(service, "teddy", owner_id=made.owner_id)
    noisy, _ = auth.create_key(service, label="noisy")
    service.close()
    api = deployment.api()
    api.start()
    ask = f"GET /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    requests = [ask, *load_client.posts("/generate", _BODY, keys=[key])]

    def measure(seconds: float) -> Measured:
        return load_client.run([api.port], requests, per_second=_PER_SECOND, seconds=seconds)

    measure(3)
    quiet = measure(arguments.seconds)
    noise = _make_noise(api.port, noisy, arguments)
    try:
        with _memory_of(api.process.pid) as memory_mebibytes:
            loud = measure(arguments.seconds)
        told, _ = noise.communicate(timeout=60)
    finally:
        noise.kill()
    for name, measured in (("alone", quiet), ("both", loud)):
        print(
            f"{name:>8}: p50 {measured.milliseconds(50):6.1f} ms, "
            f"p99 {measured.milliseconds(99):6.1f} ms, answers {measured.statuses}"
        )
    print(f"memory of the server and its decoders: at most {max(memory_mebibytes):.0f} MiB")
    print(f"the other owner's answers: {json.loads(told)}")
    bar = max(2 * quiet.milliseconds(99), _BAR_MILLISECONDS)
    failed = [status for status in loud.statuses if status >= 300]
    met = not failed and loud.milliseconds(99) <= bar
    print(f"bar: no 5xx and p99 at most {bar:.0f} ms: {'met' if met else 'MISSED'}")


@contextmanager
def _memory_of(pid: int) -> Iterator[list[float]]:
    """Sample the memory of a process and its children, in MiB, while the block runs."""
    samples: list[float] = []
    ended = Event()

    def sample() -> None:
        process = psutil.Process(pid)
        while not ended.wait(_SAMPLE_SECONDS):
            total = 0
            for each in [process, *process.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):  # a decoder that has just ended
                    total += each.memory_info().rss
            samples.append(total / 1024**2)

    thread = Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def _make_noise(port: int, key: str, arguments: argparse.Namespace) -> "subprocess.Popen[str]":
    """Start the noisy owner, and wait until it sends requests."""
    command = [sys.executable, "-m", "benchmarks.servers.noisy_owner", str(port), key]
    for option in ("uploads", "imports", "seconds"):
        command += [f"--{option}", str(getattr(arguments, option))]
    noise = subprocess.Popen(
        [*command, *(["--rude"] if arguments.rude else [])],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert noise.stdout is not None
    assert noise.stdout.readline() == "ready\n"
    return noise


if __name__ == "__main__":
    main()

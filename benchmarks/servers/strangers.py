"""Measure how much memory of the API process strangers without a key can use.

    python -m benchmarks.servers.strangers [--connections 100] [--mebibytes 256]

The benchmark starts PostgreSQL, Redis and `perfusion serve`, which requires keys, without a worker.
Twenty seconds after the start it reads the peak of the memory (VmHWM). Then each connection sends a
multipart form of --mebibytes to `POST /concepts` and one to `POST /generate`, until all is sent or
the server closes. Every second connection sends no Content-Length.

The bar: the peak rises by at most 50 MiB.
"""

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from service import auth
from tests.integration.stack import servers
from tests.integration.stack.deployment import Api, Deployment

_MEBIBYTE = 1024**2
_SETTLED_SECONDS = 20
_BAR_MEBIBYTES = 50
_PATHS = ("/concepts", "/generate")
_PART = b'--b\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'


def main() -> None:
    """Print the peak before and after, the bytes sent and the answers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--mebibytes", type=int, default=256)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        servers.postgres() as postgres,
        servers.redis() as redis,
    ):
        urls = {
            "PERFUSION_DATABASE_URL": postgres.new_database(),
            "PERFUSION_QUEUE_URL": redis.url,
        }
        deployment = Deployment(Path(folder), urls, auth="required", log_level="info")
        try:
            deployment.migrate()
            service = deployment.service()
            auth.create_key(service, label="of another owner")
            service.close()
            api = deployment.api()
            api.start()
            time.sleep(_SETTLED_SECONDS)
            _measure(api, connections=arguments.connections, mebibytes=arguments.mebibytes)
        finally:
            deployment.close()


def _measure(api: Api, *, connections: int, mebibytes: int) -> None:
    before = peak_mebibytes(api.process.pid)
    begun = time.perf_counter()
    statuses, sent = asyncio.run(_send_all(api.port, connections, mebibytes=mebibytes))
    seconds = time.perf_counter() - begun
    more = peak_mebibytes(api.process.pid) - before
    alive = api.answers()
    print(f"{connections} strangers, {mebibytes} MiB to each of {' and '.join(_PATHS)}")
    print(f"  sent {sent / _MEBIBYTE:.0f} MiB in {seconds:.1f} s; answers {dict(statuses)}")
    print(f"  VmHWM {before:.1f} MiB before, {more:+.1f} MiB; /healthz answers: {alive}")
    met = more <= _BAR_MEBIBYTES and alive and not any(k // 100 == 5 or not k for k in statuses)
    print(f"  bar: at most {_BAR_MEBIBYTES} MiB more: {'met' if met else 'MISSED'}")


def peak_mebibytes(pid: int) -> float:
    """Return the peak memory of a process, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


async def _send_all(port: int, connections: int, *, mebibytes: int) -> tuple[Counter[int], int]:
    senders = [_Stranger(port, mebibytes, chunked=bool(k % 2)) for k in range(connections)]
    await asyncio.gather(*(sender.run() for sender in senders))
    statuses: Counter[int] = Counter()
    for sender in senders:
        statuses.update(sender.statuses)
    return statuses, sum(sender.sent for sender in senders)


class _Stranger:
    """A sender with one connection at a time; status 0 means that no answer came."""

    def __init__(self, port: int, mebibytes: int, *, chunked: bool) -> None:
        self._port = port
        self._mebibytes = mebibytes
        self._chunked = chunked
        self.statuses: list[int] = []
        self.sent = 0

    async def run(self) -> None:
        for path in _PATHS:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            answer = asyncio.create_task(reader.readline())
            with suppress(OSError):  # the server may close the connection
                await self._send(path, writer)
            try:
                line = await asyncio.wait_for(answer, 60)
            except (OSError, TimeoutError):
                line = b""
            self.statuses.append(int(line[9:12] or 0))
            writer.close()

    async def _send(self, path: str, writer: asyncio.StreamWriter) -> None:
        size = self._mebibytes * _MEBIBYTE
        length = "Transfer-Encoding: chunked" if self._chunked else f"Content-Length: {size}"
        writer.write(
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{length}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode()
        )
        piece = _PART + b"x" * (_MEBIBYTE - len(_PART))
        if self._chunked:
            piece = b"%x\r\n" % len(piece) + piece + b"\r\n"
        for _ in range(self._mebibytes):
            writer.write(piece)
            await writer.drain()
            self.sent += _MEBIBYTE


if __name__ == "__main__":
    main()

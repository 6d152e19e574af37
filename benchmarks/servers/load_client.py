"""A client that sends requests at a constant rate and measures how long each takes.

A slow server does not slow the rate down: a request that is due goes over another connection, and
its time counts from the moment when it was due. A client that waits for each answer before the next
request would not measure the waiting. The client speaks plain HTTP/1.1 over asyncio to save
processor time, because both sides share the cores.
"""

import asyncio
import gc
import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice

_MAX_CONNECTIONS = 256


@dataclass
class Measured:
    """The seconds of the accepted requests, and the number of answers with each status."""

    seconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    def milliseconds(self, percent: float) -> float:
        """Return a percentile of the accepted requests."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def posts(path: str, body: bytes, *, keys: Sequence[str]) -> list[bytes]:
    """Return one request per API key, with the JSON `body`."""
    return [
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: application/json\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
        + body
        for key in keys
    ]


def run(
    ports: Sequence[int],
    requests: Sequence[bytes],
    *,
    per_second: float,
    seconds: float,
    connections: int = 0,
) -> Measured:
    """Send the requests in turn to the ports of this machine, `per_second` times a second.

    `connections` is the number of connections that are open from the start and take turns. Requests
    then come at random, as from independent callers. With 0 they come evenly, over as few
    connections as suffice.
    """
    load = _Load(ports, requests)
    gc.disable()
    try:
        return asyncio.run(
            load.run(per_second=per_second, seconds=seconds, connections=connections)
        )
    finally:
        gc.enable()


_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Load:
    def __init__(self, ports: Sequence[int], requests: Sequence[bytes]) -> None:
        self._idle: dict[int, deque[_Connection]] = {port: deque() for port in ports}
        self._requests = requests
        self._open = 0
        self._measured = Measured()

    async def run(self, *, per_second: float, seconds: float, connections: int) -> Measured:
        for port in islice(cycle(self._idle), connections):
            self._idle[port].append(await self._connect(port))
        self._in_turn, chance = connections > 0, random.Random(0)
        tasks, due = [], time.perf_counter()
        ports, requests = cycle(self._idle), cycle(self._requests)
        for _ in range(int(per_second * seconds)):
            due += (chance.expovariate(1.0) if connections else 1.0) / per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(self._send(due, next(ports), next(requests))))
        await asyncio.gather(*tasks)
        for idle in self._idle.values():
            for _, writer in idle:
                writer.close()
        return self._measured

    async def _send(self, due: float, port: int, request: bytes) -> None:
        while True:
            reader, writer = await self._connection(port)
            writer.write(request)
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                break
            except (asyncio.IncompleteReadError, ConnectionError):
                # The server has closed a connection that was idle for too long.
                self._open -= 1
                writer.close()
        length = next(
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        )
        await reader.readexactly(length)
        status = int(head[9:12])
        self._measured.statuses[status] = self._measured.statuses.get(status, 0) + 1
        if status < 300:
            self._measured.seconds.append(time.perf_counter() - due)
        self._idle[port].append((reader, writer))

    async def _connection(self, port: int) -> _Connection:
        idle = self._idle[port]
        if idle:
            return idle.popleft() if self._in_turn else idle.pop()
        return await self._connect(port)

    async def _connect(self, port: int) -> _Connection:
        self._open += 1
        if self._open > _MAX_CONNECTIONS:
            raise SystemExit(
                f"{_MAX_CONNECTIONS} requests wait for an answer: the server is overloaded."
            )
        return await asyncio.open_connection("127.0.0.1", port)

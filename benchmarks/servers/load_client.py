"""A client that sends requests at a constant rate and measures how long each takes.

The rate does not give way to a slow server: a request that is due is sent on another connection,
and its time counts from the moment when it was due. A client that waits for answers before it
goes on would not see the waiting. Plain HTTP/1.1 over asyncio, because both sides share the cores.
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
    """What came back: seconds of the accepted requests, and the number of every status."""

    seconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    def milliseconds(self, percent: float) -> float:
        """The percentile of the accepted requests."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def posts(path: str, body: bytes, *, keys: Sequence[str]) -> list[bytes]:
    """Return a request with the JSON `body` from the caller of each API key."""
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
    """Send the requests by turns to the ports of this machine, `per_second` times a second.

    `connections` of them are open from the beginning and take turns, and requests come at random,
    as from independent callers. With 0 they come evenly, over as few connections as suffice.
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
            tasks.append(asyncio.create_task(self._one(due, next(ports), next(requests))))
        await asyncio.gather(*tasks)
        for idle in self._idle.values():
            for _, writer in idle:
                writer.close()
        return self._measured

    async def _one(self, due: float, port: int, request: bytes) -> None:
        while True:
            reader, writer = await self._connection(port)
            writer.write(request)
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                break
            except (asyncio.IncompleteReadError, ConnectionError):
                # It had rested longer than the server keeps it.
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
            raise SystemExit(f"{_MAX_CONNECTIONS} requests wait for an answer: it is overloaded.")
        return await asyncio.open_connection("127.0.0.1", port)

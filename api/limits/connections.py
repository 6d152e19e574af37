"""Close silent connections, so that one client cannot use up all connections.

uvicorn waits for a request's head without a time limit, on as many connections as the process has
descriptors. With this protocol a connection must send a whole head within HEAD_SECONDS. The number
of connections without a request is limited: a new connection closes the connection that has waited
longest. After an early answer, the rest of the request is read and dropped for up to HEAD_SECONDS,
so that the answer reaches a client that sends its whole request before reading.

uvicorn also accepts a head of any length, any number of pipelined requests, and a client that never
reads its answer. This protocol limits the bytes of a head, the number of pipelined requests, and
the seconds in which a client reads nothing.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

HEAD_SECONDS = 10
READER_SECONDS = 120
MAX_HEAD_BYTES = 64 * 1024
# Requests sent before the previous answer has arrived; few clients send such requests.
MAX_PIPELINED = 8
# Descriptors reserved for files, the database, Redis and S3; callers' connections use the rest.
_OWN_DESCRIPTORS = 256
# The most that macOS accepts, whatever limit it reports.
_MACOS_DESCRIPTORS = 10_240


def raise_descriptor_limit() -> int:
    """Raise the limit of open files and connections to the system's limit; return the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else 2**16
    for wanted in (most, _MACOS_DESCRIPTORS):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            continue
        return wanted
    return soft


def protocol(
    *,
    descriptors: int,
    head_seconds: float = HEAD_SECONDS,
    reader_seconds: float = READER_SECONDS,
) -> type[HttpToolsProtocol]:
    """Return the protocol of a server that may open this many descriptors."""
    return type(
        "_BoundedProtocol",
        (_Protocol,),
        {
            "head_seconds": head_seconds,
            "reader_seconds": reader_seconds,
            "most_idle": max(1, descriptors - _OWN_DESCRIPTORS, descriptors // 2),
            "idle": {},
        },
    )


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol with limits on heads, pipelined requests and silent connections."""

    head_seconds: float
    reader_seconds: float
    most_idle: int
    idle: dict[_Protocol, None]  # this server's, the longest waiting first
    _head_timer: asyncio.TimerHandle | None = None
    _reader_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0  # of a head or trailers; bodies are bounded elsewhere
    _served: RequestResponseCycle | None = None  # `cycle` is the newest, which may still wait

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._await_head()
        if len(self.idle) > self.most_idle:
            longest = next(iter(self.idle))
            longest._has_head()
            longest.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; tell its running request."""
        self._has_head()
        if self._reader_timer is not None:
            self._reader_timer.cancel()
        super().connection_lost(exc)
        if self._served is not None and not self._served.response_complete:
            self._served.disconnected = True
            self._served.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Take bytes; start the time limit even if no request begins or an answer was just sent."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self.transport.abort()
        if self._is_idle() and self.timeout_keep_alive_task is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """Serve the request without a time limit."""
        self._has_head()
        self._head_bytes = 0
        if len(self.pipeline) >= MAX_PIPELINED:
            self.transport.abort()
            raise ConnectionAbortedError  # stops the parser
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body, which the application bounds."""
        self._head_bytes = 0
        super().on_body(body)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._served = cycle
        super()._start_asgi_task(cycle, app)

    def on_message_complete(self) -> None:
        """Wait for the next request if the received request is already answered."""
        super().on_message_complete()
        if self._is_idle() and self.timeout_keep_alive_task is None:
            self._has_head()
            self.idle[self] = None
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """Start the wait for the next request, or for the rest of the answered request."""
        super().on_response_complete()
        self._await_reader()
        if self._is_idle():
            self.idle[self] = None

    def pause_writing(self) -> None:
        """Wait for a client that reads its answer slowly."""
        super().pause_writing()
        self._await_reader()

    def _await_reader(self) -> None:
        left = self.transport.get_write_buffer_size()
        if left and self._reader_timer is None:
            self._reader_timer = self.loop.call_later(self.reader_seconds, self._check_reader, left)

    def _check_reader(self, left_before: int) -> None:
        self._reader_timer = None
        if self.transport.get_write_buffer_size() >= left_before:
            self.transport.abort()  # close() would wait until the client has read everything
        self._await_reader()

    def _is_idle(self) -> bool:
        if self.transport.is_closing():
            return False
        return self.cycle is None or self.cycle.response_complete

    def _await_head(self) -> None:
        if self._head_timer is None:
            self.idle[self] = None
            self._head_timer = self.loop.call_later(self.head_seconds, self.transport.close)

    def _has_head(self) -> None:
        self.idle.pop(self, None)
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

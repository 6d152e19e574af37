"""Silent connections are closed, so that a stranger cannot use up all of them.

uvicorn waits for a request's head for ever, and on as many connections as there are descriptors.
Here a connection must send a whole head within HEAD_SECONDS. The number of connections without a
request is bounded: a new one closes the one that has waited longest. After an early answer the rest
of the request is read and dropped for up to HEAD_SECONDS, so that the answer reaches a client that
sends everything before it reads.
"""

from __future__ import annotations

import asyncio
import resource

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10
# For files, the database, Redis and S3; callers' connections may have the rest.
_OWN_DESCRIPTORS = 256


def raise_descriptor_limit() -> int:
    """Raise the limit of open files and connections to the system's own; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return 2**16 if hard == resource.RLIM_INFINITY else hard


def protocol(*, descriptors: int, head_seconds: float = HEAD_SECONDS) -> type[HttpToolsProtocol]:
    """Return the protocol of a server that may have so many descriptors open."""
    return type(
        "_BoundedProtocol",
        (_Protocol,),
        {
            "head_seconds": head_seconds,
            "most_idle": max(1, descriptors - _OWN_DESCRIPTORS, descriptors // 2),
            "idle": {},
        },
    )


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol with a time limit for the head, and few connections without a request."""

    head_seconds: float
    most_idle: int
    idle: dict[_Protocol, None]  # of this server, the one that has waited longest first
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._await_head()
        if len(self.idle) > self.most_idle:
            longest = next(iter(self.idle))
            longest._has_head()
            longest.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._has_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; also those that begin no request or follow an answer have a time limit."""
        super().data_received(data)
        if self._is_idle() and self.timeout_keep_alive_task is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """Serve the request, for as long as it takes."""
        self._has_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait for the next request, if the rest of an answered one was all that was missing."""
        super().on_message_complete()
        if self._is_idle() and self.timeout_keep_alive_task is None:
            self._has_head()
            self.idle[self] = None
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """Wait for the next request, or for more of this one."""
        super().on_response_complete()
        if self._is_idle():
            self.idle[self] = None

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

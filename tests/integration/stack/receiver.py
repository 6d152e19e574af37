"""A receiver of webhooks on 127.0.0.1, which notes every message and answers as it is told."""

import json
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, BinaryIO


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def message(self) -> Any:
        return json.loads(self.body)


Answer = Callable[[Received, BinaryIO], None]
"""Write the answer to a message; to write none closes the connection without an answer."""


def status(code: int, *headers: str) -> Answer:
    """Return an answer with a status and no body."""
    lines = [f"HTTP/1.1 {code} -", "Content-Length: 0", *headers, "", ""]
    return lambda _, connection: connection.write("\r\n".join(lines).encode()) and None


@dataclass
class Receiver:
    """A server that answers every message with `answer`, which a test may change."""

    answer: Answer = field(default_factory=lambda: status(204))
    host: str = "127.0.0.1"
    port: int = 0
    trust: ssl.SSLContext | None = None  # for https
    received: list[Received] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                names = {name.lower(): value for name, value in self.headers.items()}
                got = Received(self.path, names, body)
                with receiver._lock:
                    receiver.received.append(got)
                with suppress(OSError):  # the sender no longer waits
                    receiver.answer(got, self.wfile)  # type: ignore[arg-type]

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer((self.host, self.port), Handler)
        self._server.daemon_threads = True
        if self.trust is not None:
            self._server.socket = self.trust.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_address[1]
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/hook?token=secret-of-the-receiver"

    def __enter__(self) -> "Receiver":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

"""Connections that say nothing are closed; an answer reaches a client that is still sending."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import pytest
import uvicorn

from api import connections
from api.app import create_app
from service.wiring import Service
from tests.unit.api.checks import refusal

Make = Callable[..., Any]
HEAD_SECONDS = 0.5
MEBIBYTE = 1024**2
HEAD = b"POST /concepts HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@contextmanager
def bounded_server(service: Service, *, descriptors: int = 10_000, **options: Any) -> Iterator[int]:
    """The application behind the product's own protocol; yields the port."""
    app = create_app(service, embedded=False, **options)
    http = connections.protocol(descriptors=descriptors, head_seconds=HEAD_SECONDS)
    config = uvicorn.Config(app, port=0, http=http, log_config=None, timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def port(service: Service) -> Iterator[int]:
    with bounded_server(service, key_required=True) as port:
        yield port


def connected(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port))
    client.settimeout(10)
    return client


def seconds_until_closed(client: socket.socket) -> float:
    begun = time.monotonic()
    assert client.recv(1) == b""
    return time.monotonic() - begun


@pytest.mark.parametrize(
    "said",
    [b"", b"\r\n", b"GET /healthz", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: y"],
    ids=["nothing", "an empty line", "half a line", "half a head"],
)
def test_a_connection_that_brings_no_whole_head_is_closed(port: int, said: bytes) -> None:
    with connected(port) as client:
        client.sendall(said)
        assert seconds_until_closed(client) == pytest.approx(HEAD_SECONDS + 1, abs=1.1)


def test_a_head_that_arrives_byte_by_byte_has_no_more_time(port: int) -> None:
    with connected(port) as client:
        begun = time.monotonic()
        with pytest.raises(OSError):
            for byte in b"GET /healthz HTTP/1.1\r\nX: " + b"y" * 10_000:
                client.sendall(bytes([byte]))
                time.sleep(0.02)
        assert time.monotonic() - begun < HEAD_SECONDS + 2


def answer_of(client: socket.socket) -> bytes:
    """The head and body of one answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(65_536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length")
    )
    while len(body) < length:
        body += client.recv(65_536)
    return head + b"\r\n\r\n" + body


def test_a_connection_is_kept_for_the_next_request_and_then_bounded_again(port: int) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with connected(port) as client:
        for _ in range(3):
            client.sendall(request)
            assert answer_of(client).startswith(b"HTTP/1.1 200")
            time.sleep(1.5 * HEAD_SECONDS)  # between requests uvicorn's own, longer limit holds
        client.sendall(request[:20])
        assert seconds_until_closed(client) == pytest.approx(HEAD_SECONDS + 1, abs=1.1)


def test_a_request_may_take_longer_than_its_head(service: Service) -> None:
    with bounded_server(service) as port, connected(port) as client:
        body = b'{"prompt": "a"}'
        head = b"POST /generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body[:5])
        time.sleep(2 * HEAD_SECONDS)
        client.sendall(body[5:])
        assert answer_of(client).startswith(b"HTTP/1.1 202")


@pytest.mark.parametrize("kept", [b"", b"Connection: close\r\n"])
@pytest.mark.parametrize(
    "length", [b"Content-Length: 67108864\r\n", b"Content-Length: 99999999\r\n"]
)
def test_a_refusal_reaches_a_client_that_sends_everything_first(
    port: int, kept: bytes, length: bytes
) -> None:
    """401 for a stranger, 413 for a body that is too large: of neither is anything read."""
    with connected(port) as client:
        client.sendall(HEAD + kept + b"Content-Type: multipart/form-data; boundary=b\r\n" + length)
        client.sendall(b"\r\n")
        try:
            for _ in range(64):
                client.sendall(b"x" * MEBIBYTE)
        except OSError:
            pass  # it was closed on us, as we asked for; the answer is there all the same
        answer = answer_of(client)
        assert answer.startswith(b"HTTP/1.1 401" if b"67108864" in length else b"HTTP/1.1 413")
        assert b"/problems/" in answer


def test_a_refusal_reaches_an_ordinary_client(port: int) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(64):
            yield b"x" * MEBIBYTE

    form = {"Content-Type": "multipart/form-data; boundary=b"}
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        for content in (b"x" * (60 * MEBIBYTE), endless()):
            refusal(client.post("/concepts", content=content, headers=form), 401, "key-missing")
        json = {"Content-Type": "application/json"}
        answer = client.post("/generate", content=b"x" * (60 * MEBIBYTE), headers=json)
        refusal(answer, 413, "body-too-large")
        assert client.get("/healthz").status_code == 200


def test_a_client_that_goes_on_sending_after_its_refusal_is_closed(port: int) -> None:
    with connected(port) as client:
        client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        assert answer_of(client).startswith(b"HTTP/1.1 401")
        begun = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() < begun + 10:
                client.sendall(b"1\r\nx\r\n")
                time.sleep(0.01)
        assert time.monotonic() - begun < HEAD_SECONDS + 2


def test_of_silent_connections_the_one_that_has_waited_longest_makes_room(service: Service) -> None:
    with bounded_server(service, descriptors=8) as port, ExitStack() as stack:
        begun = time.monotonic()
        silent = [stack.enter_context(connected(port)) for _ in range(5)]
        assert seconds_until_closed(silent[0]) < HEAD_SECONDS * 0.8
        for client in silent[1:]:
            seconds_until_closed(client)
        assert time.monotonic() - begun > HEAD_SECONDS * 0.8


FLOODED = """
import resource, uvicorn
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 256))
from api import connections
descriptors = connections.raise_descriptor_limit()
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (256, 256) and descriptors == 256

async def app(scope, receive, send):
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body"})

http = connections.protocol(descriptors=descriptors)
config = uvicorn.Config(app, port=PORT, http=http, lifespan="off", log_level="critical")
uvicorn.Server(config).run()
"""


def test_more_silent_connections_than_descriptors_leave_the_server_answering() -> None:
    connections.raise_descriptor_limit()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-c", FLOODED.replace("PORT", str(port))])
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                connected(port).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        with ExitStack() as stack:
            for k in range(600):
                client = stack.enter_context(connected(port))
                client.sendall(b"GET / HT" if k % 2 else b"")
                if k % 20 == 0:
                    with connected(port) as other:
                        other.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
                        assert answer_of(other).startswith(b"HTTP/1.1 200")
    finally:
        server.kill()
        server.wait()

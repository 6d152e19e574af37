"""Silent connections are closed, and an answer reaches a client that is still sending."""

import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx2
import pytest
import uvicorn

from api.app import create_app
from api.limits import connections
from service.wiring import Service
from tests.unit.api.checks import refusal
from tests.unit.api.routes.test_jobs import open_streams

Make = Callable[..., Any]
HEAD_SECONDS = 0.5
MEBIBYTE = 1024**2
HEAD = b"POST /concepts HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@contextmanager
def bounded_server(service: Service, *, descriptors: int = 10_000, **options: Any) -> Iterator[int]:
    """Serve the application behind the product's own protocol; yield the port."""
    app = create_app(service, embedded=False, **options)
    http = connections.protocol(descriptors=descriptors, head_seconds=HEAD_SECONDS)
    config = uvicorn.Config(app, port=0, http=http, log_config=None, timeout_graceful_shutdown=2)
    with running(uvicorn.Server(config)) as server:
        yield server.servers[0].sockets[0].getsockname()[1]


@contextmanager
def running(server: uvicorn.Server) -> Iterator[uvicorn.Server]:
    """Run the server in a thread; yield once it listens."""
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server
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


@pytest.mark.parametrize(
    "begin",
    [
        b"GET /healthz HTTP/1.1\r\nX: ",
        b"GET /",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ",
    ],
    ids=["a header", "an address", "a trailer"],
)
def test_a_head_that_does_not_end_is_not_kept(port: int, begin: bytes) -> None:
    with connected(port) as client, pytest.raises(OSError):
        client.sendall(begin)
        for _ in range(16):
            client.sendall(b"y" * MEBIBYTE)


def test_a_request_may_have_a_long_head_and_a_body_in_small_pieces(service: Service) -> None:
    with bounded_server(service) as port, connected(port) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nCookie: " + b"y" * 60_000 + b"\r\n\r\n")
        assert answer_of(client).startswith(b"HTTP/1.1 200")
        head = b"POST /generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        client.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        client.sendall(b"1\r\n \r\n" * 100_000 + b'f\r\n{"prompt": "a"}\r\n0\r\n\r\n')
        assert answer_of(client).startswith(b"HTTP/1.1 202")


def test_a_few_requests_may_be_sent_before_the_first_is_answered_and_no_more(port: int) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    few = 1 + connections.MAX_PIPELINED
    with connected(port) as client:
        client.sendall((request + b"\r\n") * (few - 1) + request + b"Connection: close\r\n\r\n")
        answers = b"".join(iter(lambda: client.recv(65_536), b""))
        assert answers.count(b"HTTP/1.1 200") == few
    with connected(port) as client:
        client.sendall((request + b"\r\n") * 500 + request + b"Connection: close\r\n\r\n")
        answers = b""
        with suppress(ConnectionError):
            answers = b"".join(iter(lambda: client.recv(65_536), b""))
        assert answers.count(b"HTTP/1.1 200") <= few


def test_a_stream_ends_with_its_connection_though_another_request_waits_behind_it(
    service: Service,
) -> None:
    with (
        bounded_server(service) as port,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as other,
    ):
        job_id = str(other.post("/generate", json={"prompt": "a"}).json()["job"]["id"])
        client = connected(port)
        head = b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        client.sendall(head % f"/jobs/{job_id}/events".encode() + head % b"/healthz")
        assert client.recv(65_536).startswith(b"HTTP/1.1 200")
        assert open_streams(other) == 1
        client.close()
        deadline = time.monotonic() + 5
        while open_streams(other):
            assert time.monotonic() < deadline, "its slot was not given back"


LARGE = 8 * MEBIBYTE


@contextmanager
def large_answers(*, reader_seconds: float) -> Iterator[tuple[int, uvicorn.Server]]:
    """Yield the port of a server whose answers fill every buffer on the way to the client."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"%d" % LARGE)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * LARGE})

    http = connections.protocol(descriptors=10_000, reader_seconds=reader_seconds)
    config = uvicorn.Config(app, port=0, http=http, lifespan="off", log_config=None)
    with running(uvicorn.Server(config)) as server:
        yield server.servers[0].sockets[0].getsockname()[1], server


@pytest.mark.parametrize("requests", [1, 3])
def test_a_client_that_takes_nothing_of_its_answer_is_closed(requests: int) -> None:
    with large_answers(reader_seconds=0.3) as (port, server), connected(port) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n" * requests)
        deadline = time.monotonic() + 5
        while not server.server_state.connections:
            assert time.monotonic() < deadline
        while server.server_state.connections:
            assert time.monotonic() < deadline + 10, "it is kept for ever"
            time.sleep(0.05)


def test_a_client_that_takes_its_answer_slowly_gets_all_of_it() -> None:
    with large_answers(reader_seconds=0.5) as (port, _), connected(port) as client:
        client.sendall(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        taken = 0
        while data := client.recv(MEBIBYTE // 4):
            taken += len(data)
            time.sleep(0.05)
        assert taken > LARGE


def answer_of(client: socket.socket) -> bytes:
    """Read one answer; return its head and body."""
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
            time.sleep(1.5 * HEAD_SECONDS)  # between requests, uvicorn's own longer limit applies
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
    "length", [b"Content-Length: 268435456\r\n", b"Content-Length: 999999999\r\n"]
)
def test_a_refusal_reaches_a_client_that_sends_everything_first(
    port: int, kept: bytes, length: bytes
) -> None:
    """An unknown caller gets 401, a body that is too large gets 413, and neither body is read."""
    with connected(port) as client:
        client.sendall(HEAD + kept + b"Content-Type: multipart/form-data; boundary=b\r\n" + length)
        client.sendall(b"\r\n")
        try:
            for _ in range(64):
                client.sendall(b"x" * MEBIBYTE)
        except OSError:
            pass  # the server closed the connection, as it should; the answer has still arrived
        answer = answer_of(client)
        assert answer.startswith(b"HTTP/1.1 401" if b"268435456" in length else b"HTTP/1.1 413")
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
from api.limits import connections
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


def test_a_system_that_bounds_descriptors_otherwise_than_it_says_is_no_reason_not_to_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """macOS reports an infinite hard limit but accepts at most 10,240."""
    limits = [256, resource.RLIM_INFINITY]

    def set_limits(_: int, wanted: tuple[int, int]) -> None:
        if not 0 <= wanted[0] <= 10_240:
            raise ValueError("current limit exceeds maximum limit")
        limits[:] = wanted

    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", set_limits)
    assert connections.raise_descriptor_limit() == 10_240
    assert limits == [10_240, resource.RLIM_INFINITY]


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

"""Uploads are bounded in number, memory and time, and disappear with their process."""

import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from api import middleware
from api.limits import concurrency
from api.limits.concurrency import MAX_IMPORTS_PER_CALLER, MAX_UPLOADS_PER_CALLER
from service import quota
from service.wiring import Service
from tests.unit.api.checks import refusal
from tests.unit.api.limits.test_connections import answer_of, bounded_server, connected
from tests.unit.api.routes.test_concepts import png, upload
from tests.unit.service import staging

Make = Callable[..., Any]
MEBIBYTE = 1024**2
PART = b'--b\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'


def head(path: str, length: int) -> bytes:
    return (
        b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n" % (path.encode(), length)
    )


def begun(port: int, path: str, length: int = 100_000, *, body: bytes = PART) -> socket.socket:
    """Begin an upload and send no more; return its connection."""
    client = connected(port)
    client.sendall(head(path, length) + body)
    return client


def first_answered(clients: list[socket.socket]) -> socket.socket:
    """Return the one upload that is answered first."""
    readable, _, _ = select.select(clients, [], [], 20)
    assert len(readable) == 1
    return cast(socket.socket, readable[0])


def is_answered(client: socket.socket) -> bool:
    client.settimeout(0.3)
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False
    finally:
        client.settimeout(10)


@pytest.mark.parametrize(
    ("path", "most", "slug"),
    [
        ("/concepts", MAX_UPLOADS_PER_CALLER, b"too-many-uploads"),
        ("/concepts/import", MAX_IMPORTS_PER_CALLER, b"too-many-imports"),
    ],
)
def test_a_caller_has_so_many_uploads_at_once_and_one_more_is_not_read(
    service: Service, path: str, most: int, slug: bytes
) -> None:
    with bounded_server(service) as port:
        going_on = [begun(port, path, body=b"") for _ in range(most + 1)]
        refused = first_answered(going_on)  # the upload that arrived last; no body was read
        answer = answer_of(refused)
        assert answer.startswith(b"HTTP/1.1 429")
        assert slug in answer
        assert b"retry-after: 5" in answer.lower()
        going_on.remove(refused)
        refused.close()
        assert not any(map(is_answered, going_on))
        going_on.pop().close()
        deadline = time.monotonic() + 5
        while is_answered(again := begun(port, path)):
            assert time.monotonic() < deadline, "the slot was not given back"
            again.close()
        for client in (again, *going_on):
            client.close()


def test_all_uploads_together_are_bounded_before_they_are_read(
    make_service: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Here all uploads come from one caller, whose own limits are out of reach.
    monkeypatch.setattr(concurrency, "MAX_UPLOADS_PER_CALLER", 100)
    monkeypatch.setattr(concurrency, "SPOOL_SHARES", 0.1)
    service = make_service(max_body_bytes=MEBIBYTE, spool_bytes=3 * MEBIBYTE // 2)
    with bounded_server(service) as port:
        pair = [begun(port, "/concepts", MEBIBYTE, body=b"") for _ in range(2)]
        refused = first_answered(pair)  # the upload that arrived second
        answer = answer_of(refused)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"uploads-busy" in answer
        pair.remove(refused)
        with begun(port, "/concepts", MEBIBYTE // 2) as smaller:
            assert not is_answered(smaller)
        assert not is_answered(pair[0])
        for client in (refused, *pair):
            client.close()


def test_an_upload_that_stops_arriving_is_told_so_and_gives_its_slot_back(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "SILENCE_SECONDS", 0.3)
    with bounded_server(service) as port:
        for _ in range(2 * MAX_UPLOADS_PER_CALLER):
            with begun(port, "/concepts") as client:
                answer = answer_of(client)
                assert answer.startswith(b"HTTP/1.1 408")
                assert b"body-too-slow" in answer


def test_a_body_that_trickles_has_its_time_too(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "BODY_SECONDS", 0.5)
    with bounded_server(service) as port, connected(port) as client:
        client.sendall(head("/concepts", 100_000) + PART)
        begun_s = time.monotonic()
        while not is_answered(client):
            client.sendall(b"x")
            assert time.monotonic() < begun_s + 5
        assert answer_of(client).startswith(b"HTTP/1.1 408")


def spooling_fails(client: TestClient, service: Service) -> None:
    with capture_logs() as logged:
        answer = upload(client, images=[b"x" * 200_000])
    problem = refusal(answer, 503, "no-room-for-uploads")
    assert int(answer.headers["retry-after"]) > 0
    assert service.settings.spool_dir not in problem["detail"]
    (line,) = [line for line in logged if line["event"] == "spool.failed"]
    assert line["cause"]


def test_a_folder_for_uploads_that_cannot_be_written_to_is_a_503(
    make_service: Make, make_client: Make, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    service = make_service(spool_dir=str(tmp_path / "file" / "spool"))
    spooling_fails(make_client(service), service)


def test_a_folder_for_uploads_that_is_full_is_a_503_and_what_is_small_still_passes(
    service: Service, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tempfile import SpooledTemporaryFile

    def full(self: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SpooledTemporaryFile, "rollover", full)
    spooling_fails(client, service)
    assert upload(client, images=[png()]).status_code == 202


def spooled(pid: int, folder: Path) -> list[Path]:
    """Return the nameless files that a process holds open in this folder."""
    files = [file.readlink() for file in Path(f"/proc/{pid}/fd").iterdir() if file.is_symlink()]
    return [file for file in files if folder.resolve() in file.parents]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_an_upload_lies_in_its_folder_without_a_name(service: Service) -> None:
    """A crash leaves nothing, because the kernel frees the file with its last descriptor."""
    folder = Path(service.settings.spool_dir)
    with bounded_server(service) as port:
        client = begun(port, "/concepts", 900_000)
        client.sendall(b"x" * 800_000)
        deadline = time.monotonic() + 5
        while not spooled(os.getpid(), folder) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(spooled(os.getpid(), folder)) == 1
        assert list(folder.iterdir()) == []
        client.close()
        while spooled(os.getpid(), folder) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert spooled(os.getpid(), folder) == []


def test_an_import_does_not_wait_for_the_decoders_of_uploads(
    service: Service, client: TestClient
) -> None:
    staging.register_base_model(service)
    data = staging.core_concept("rex", evaluation=staging.evaluation()).to_bytes()
    while service.decoders.acquire(blocking=False):
        pass  # both decoders are busy
    begun_s = time.monotonic()
    answer = client.post("/concepts/import", files={"file": ("c.safetensors", data)})
    assert answer.status_code == 201, answer.text
    assert time.monotonic() - begun_s < service.settings.decode_seconds / 2


def test_an_upload_waits_for_the_decoder_as_long_as_the_one_before_it_may_take(
    make_service: Make, make_client: Make
) -> None:
    """An upload that has arrived is not refused while another decodes within its time limit."""
    service = make_service(decode_seconds=1)
    held = 0
    while service.decoders.acquire(blocking=False):
        held += 1
    others_end = threading.Timer(1.5, service.decoders.release, [held])
    others_end.start()
    assert upload(make_client(service), images=[png()]).status_code == 202
    others_end.join()


def test_pictures_are_stored_one_at_a_time(
    service: Service, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoded pictures may be far larger than the upload, so only one is held at a time."""
    events: list[str] = []
    put = service.blobs.put

    def noted(key: str, data: bytes) -> None:
        events.append("put")
        put(key, data)

    from service.pictures.decoder import Decoder

    decode = Decoder.decode

    def decoded(self: Decoder, part: Any) -> Any:
        events.append("decode")
        return decode(self, part)

    monkeypatch.setattr(service.blobs, "put", noted)
    monkeypatch.setattr(Decoder, "decode", decoded)
    assert upload(client, images=[png(seed=k) for k in range(4)]).status_code == 202
    assert events == ["decode", "put"] * 4


def test_a_wrong_picture_after_good_ones_leaves_none_of_them(
    service: Service, client: TestClient
) -> None:
    refusal(upload(client, images=[png(), png(seed=1), b"no picture"]), 415)
    assert staging.blob_keys(service) == set()
    assert client.get("/concepts").json()["items"] == []


MEASURED = """
import json, sys
from pathlib import Path
from service import log, wiring
from service.settings.environment import Settings
from tests.unit.api.limits.test_connections import bounded_server

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024

settings = Settings.model_validate(json.loads(sys.argv[1]))
log.configure(settings)
service = wiring.build(settings)
with bounded_server(service, key_required=True) as port:
    print(port, peak(), flush=True)
    sys.stdin.readline()
    print(peak(), flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads VmHWM")
def test_strangers_who_send_megabytes_cost_hardly_any_memory(service: Service) -> None:
    """A small edition of `python -m benchmarks.servers.strangers`."""
    settings = json.dumps({"data_dir": service.settings.data_dir})
    server = subprocess.Popen(
        [sys.executable, "-c", MEASURED, settings],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert server.stdin is not None and server.stdout is not None
    try:
        port, before = map(int, server.stdout.readline().split())

        def send(path: str) -> None:
            with connected(port) as client:
                try:
                    client.sendall(head(path, 16 * MEBIBYTE))
                    for _ in range(16):
                        client.sendall(b"x" * MEBIBYTE)
                except OSError:
                    pass
                assert answer_of(client)[9:12] in (b"401", b"413", b"429")

        threads = [
            threading.Thread(target=send, args=(path,))
            for path in ("/concepts", "/generate", "/concepts/import")
            for _ in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.stdin.write("\n")
        server.stdin.flush()
        assert int(server.stdout.readline()) - before < 30  # of 480 MiB that were sent
    finally:
        server.kill()
        server.wait()


@pytest.fixture(autouse=True)
def _no_spool_left(service: Service) -> Iterator[None]:
    yield
    folder = Path(service.settings.spool_dir)
    assert not folder.exists() or list(folder.iterdir()) == []


def test_a_full_owner_is_told_so_before_the_upload_is_read(
    make_service: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service(max_bytes_per_owner=MEBIBYTE)
    monkeypatch.setattr(quota, "stored_bytes", lambda *_: MEBIBYTE)
    with bounded_server(service) as port:
        for path in ("/concepts", "/concepts/import"):
            with connected(port) as client:
                client.sendall(head(path, 100_000))
                answer = answer_of(client)
                assert answer.startswith(b"HTTP/1.1 507")
                assert b"storage-full" in answer

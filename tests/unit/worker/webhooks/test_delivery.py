"""One attempt goes to a checked address, ends in time, and says how it ended."""

import datetime as dt
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.integration.stack.receiver import Received, Receiver, status
from worker.webhooks import delivery
from worker.webhooks.delivery import Outcome

NAME = "hooks.example.org"
SENT = {"webhook-id": "msg_1"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


def post(url: str, *, seconds: float = 5, private: bool = True, **options: Any) -> Outcome:
    return delivery.post(
        url, headers=SENT, body='{"ü":1}', private=private, seconds=seconds, **options
    )


@pytest.mark.parametrize("code", [200, 202, 204, 299])
def test_a_2xx_delivers(receiver: Receiver, code: int) -> None:
    receiver.answer = status(code)
    assert post(receiver.url) == Outcome(is_delivered=True, what=f"status {code}")
    (got,) = receiver.received
    assert (got.path, got.message) == ("/hook?token=secret-of-the-receiver", {"ü": 1})
    assert got.headers["content-type"] == "application/json"
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert got.id == "msg_1"


@pytest.mark.parametrize("code", [302, 307, 400, 404, 410, 429, 500, 503])
def test_other_statuses_do_not_and_410_is_final(receiver: Receiver, code: int) -> None:
    with Receiver() as elsewhere:
        receiver.answer = status(code, f"Location: {elsewhere.url}")
        outcome = post(receiver.url)
    assert outcome == Outcome(is_delivered=False, what=f"status {code}", is_final=code == 410)
    assert elsewhere.received == []


def drip(_: Received, connection: BinaryIO) -> None:
    """Send a byte of a header now and then, for ever."""
    connection.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        connection.write(b"x")
        connection.flush()
        time.sleep(0.1)


def endless(_: Received, connection: BinaryIO) -> None:
    connection.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.write(b"x" * 65536)


def test_a_receiver_that_drips_is_given_up_in_time(receiver: Receiver) -> None:
    receiver.answer = drip
    began = time.monotonic()
    assert post(receiver.url, seconds=1).what == "timeout"
    assert time.monotonic() - began < 3


def test_an_endless_body_is_not_read(receiver: Receiver) -> None:
    receiver.answer = endless
    began = time.monotonic()
    assert post(receiver.url, seconds=20).is_delivered
    assert time.monotonic() - began < 5


def test_no_answer_a_broken_answer_and_no_receiver_are_failures(receiver: Receiver) -> None:
    receiver.answer = lambda *_: None
    assert not post(receiver.url).is_delivered
    receiver.answer = lambda _, connection: connection.write(b"\x00\xff nonsense\r\n\r\n") and None
    assert not post(receiver.url).is_delivered
    with Receiver() as gone:
        pass
    assert post(gone.url).what == "ConnectError"


def test_the_environments_proxy_is_not_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        assert post(receiver.url).is_delivered
    assert proxy.received == []


def test_a_private_address_is_refused_without_a_connection(receiver: Receiver) -> None:
    assert post(receiver.url, private=False).what == "address refused"
    assert receiver.received == []


@pytest.mark.parametrize("found", ["127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1"])
def test_a_name_that_leads_to_a_private_address_is_refused(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, found: str
) -> None:
    resolve(monkeypatch, ["1.1.1.1", found])
    outcome = post(f"http://{NAME}:{receiver.port}/", private=False)
    assert outcome == Outcome(is_delivered=False, what="address refused")
    assert receiver.received == []


def test_a_name_that_changes_after_the_check_gains_nothing(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver(host="127.0.0.2", port=receiver.port) as rebound:
        asked = resolve(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
        assert post(f"http://{NAME}:{receiver.port}/").is_delivered
    assert (asked, rebound.received) == ([NAME], [])
    (got,) = receiver.received
    assert got.headers["host"] == f"{NAME}:{receiver.port}"


def test_the_next_address_is_tried_if_one_cannot_be_connected_to(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, ["127.0.0.3", "127.0.0.1"])
    assert post(f"http://{NAME}:{receiver.port}/").is_delivered
    assert len(receiver.received) == 1


def test_a_name_without_an_address_may_have_one_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    assert post(f"https://{NAME}/") == Outcome(is_delivered=False, what="name not resolved")


def test_tls_asks_for_the_name_and_checks_the_certificate_by_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    certificate = make_certificate(tmp_path, NAME)
    server, asked_for = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), []
    server.load_cert_chain(certificate)
    server.sni_callback = lambda _, name, __: asked_for.append(name)  # type: ignore[assignment]
    trust = ssl.create_default_context(cafile=str(certificate))
    resolve(monkeypatch, ["127.0.0.1"])
    with Receiver(trust=server) as receiver:
        assert post(f"https://{NAME}:{receiver.port}/", trust=trust).is_delivered
        assert asked_for == [NAME]
        assert post(f"https://other.org:{receiver.port}/", trust=trust).what == "ConnectError"
        assert post(f"https://{NAME}:{receiver.port}/").what == "ConnectError"
        assert len(receiver.received) == 1


def resolve(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Let each lookup of a name get the next of `answers`; return the names as they are asked."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def make_certificate(folder: Path, name: str) -> Path:
    """Write a certificate that vouches for itself, and its key, into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "receiver.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file

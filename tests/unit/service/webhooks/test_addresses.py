"""Webhooks go to public addresses only, however an address is written or hidden behind a name."""

import socket
from threading import Event
from typing import Any

import pytest

from service.webhooks import addresses
from service.webhooks.addresses import Refused, Unresolved

PRIVATE = """
127.0.0.1 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 198.18.0.1
127.1 0177.0.0.1 0x7f.1 0x7f000001 2130706433 127.0.0.1. localhost LOCALHOST. db.localhost
printer.local database.internal nas.home.arpa
[::1] [fd00::1] [fec0::1] [2001:db8::1] [::ffff:127.0.0.1] [::ffff:a00:1] [64:ff9b::7f00:1]
[2002:7f00:1::]
""".split()
NEVER = """
169.254.169.254 [fe80::1] [::ffff:169.254.169.254] [64:ff9b::a9fe:a9fe] [fd00:ec2::254]
[2002:a9fe:a9fe::] [2001:0:4136:e378:8000:63bf:5601:5601]
168.63.129.16 100.100.100.200 192.0.0.192 metadata.google.internal metadata
0.0.0.0 0 0.1.2.3 [::] [::127.0.0.1] 224.0.0.1 [ff02::1] 240.0.0.1 255.255.255.255
""".split()
PUBLIC = ["example.org", "1.1.1.1", "[2606:4700::1111]", "[64:ff9b::101:101]", "xn--bcher-kva.de"]
NO_URL = [
    "",
    "example.org",
    "ftp://example.org",
    "http://",
    "http:///path",
    "http://example.org:0",
    "http://example.org:65536",
    "http://a..b",
    "http://[fe80::1%25eth0]",
    "http://exa%6dple.org",
    "http://example.org\\@10.0.0.1/",
    "http://example.org/a b",
    "http://example.org/\r\nHost: x",
    "http://１２７.0.0.1",  # full-width digits, which some resolvers take for 127
    "http://" + "a" * 64 + ".org",
    "http://example.org/" + "a" * 2048,
]


@pytest.mark.parametrize("host", PRIVATE)
def test_an_address_of_a_local_network_is_refused_unless_the_operator_allows_it(host: str) -> None:
    with pytest.raises(Refused, match="PERFUSION_WEBHOOKS_PRIVATE"):
        addresses.parse(f"http://{host}:8080/hook", private=False)
    assert addresses.parse(f"http://{host}:8080/hook", private=True).port == 8080


@pytest.mark.parametrize("host", NEVER)
@pytest.mark.parametrize("private", [False, True])
def test_where_clouds_keep_their_credentials_no_webhook_ever_goes(host: str, private: bool) -> None:
    with pytest.raises(Refused, match="No webhook goes"):
        addresses.parse(f"http://{host}/latest/meta-data", private=private)


@pytest.mark.parametrize("host", PUBLIC)
def test_a_public_host_is_taken_apart_and_put_together_again(host: str) -> None:
    to = addresses.parse(f"https://{host.upper()}:8443/hook?a=b#c", private=False)
    assert (to.authority, to.target) == (f"{host}:8443", "/hook?a=b")
    assert addresses.parse(f"https://{host}", private=False).authority == host


@pytest.mark.parametrize("url", NO_URL)
def test_what_is_no_url_of_a_receiver_is_refused(url: str) -> None:
    with pytest.raises(Refused):
        addresses.parse(url, private=True)


@pytest.mark.parametrize("url", ["http://user@example.org", "http://user:secret@example.org"])
def test_a_password_in_a_url_is_refused(url: str) -> None:
    with pytest.raises(Refused, match="user and password"):
        addresses.parse(url, private=True)


def test_one_forbidden_address_among_those_of_a_name_refuses_the_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    to = addresses.parse("https://hooks.example.org", private=False)
    for found, refused in [
        (["1.1.1.1", "2606:4700::1111"], False),
        (["1.1.1.1", "169.254.169.254"], True),
        (["::ffff:10.0.0.1"], True),
    ]:
        monkeypatch.setattr(socket, "getaddrinfo", resolving_to(*found))
        if refused:
            with pytest.raises(Refused):
                addresses.resolve(to, private=False, seconds=5)
        else:
            resolved = addresses.resolve(to, private=False, seconds=5)
            assert [str(address) for address in resolved] == found


def test_a_name_server_that_is_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    over = Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(30) and [])
    to = addresses.parse("https://hooks.example.org", private=False)
    with pytest.raises(Unresolved):
        addresses.resolve(to, private=False, seconds=0.1)
    over.set()


def resolving_to(*found: str) -> Any:
    """Return a resolver with the same addresses for every name."""

    def getaddrinfo(host: str, port: int, **_: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

    return getaddrinfo

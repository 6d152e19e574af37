"""Where a webhook may go: the check of its URL, and of every address that its name resolves to.

A receiver's name is resolved once for each attempt, and the message goes to an address that was
checked. So a name that changes its addresses between check and connection gains nothing.
"""

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from queue import Empty, SimpleQueue
from threading import Thread
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
MAX_URL_LENGTH = 2048
_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
# Names of this machine and of local networks (RFC 6761, RFC 6762, RFC 8375), and of the services by
# which clouds hand credentials to their machines.
_LOCAL = ("localhost", "localdomain", "local", "internal", "home.arpa")
_CREDENTIALS = ("metadata", "metadata.google.internal", "instance-data")
# The addresses of these services that are not link-local: AWS, Azure, Alibaba, Oracle.
_CREDENTIAL_ADDRESSES = frozenset(
    map(ip_address, ("fd00:ec2::254", "168.63.129.16", "100.100.100.200", "192.0.0.192"))
)
_THIS_NETWORK = ip_network("0.0.0.0/8")
_PUBLIC_IPV6 = ip_network("2000::/3")  # RFC 4291: all that is assigned as global unicast
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are the IPv4 address


class Refused(Exception):
    """A webhook may not go there; the message is a sentence that says what to do."""


class Unresolved(Exception):
    """The name has no address now, or the answer took too long."""


@dataclass(frozen=True, kw_only=True)
class Destination:
    """A checked URL in its parts; `host` is in lower case and without brackets."""

    scheme: str
    host: str
    port: int
    target: str  # path and query

    @property
    def authority(self) -> str:
        """The value of the header Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def url_at(self, address: Address) -> str:
        """Return the URL with an address in place of the name."""
        host = f"[{address}]" if address.version == 6 else str(address)
        return f"{self.scheme}://{host}:{self.port}{self.target}"


def parse(url: str, *, private: bool) -> Destination:
    """Return the parts of a URL; raise Refused if its form or its host forbids sending there.

    With `private`, names and addresses of local networks are allowed.
    """
    if not re.fullmatch(r"[\x21-\x7e]+", url) or "\\" in url or len(url) > MAX_URL_LENGTH:
        raise Refused(
            f"Write the URL in at most {MAX_URL_LENGTH} ASCII characters without spaces and "
            "backslashes; other letters of a name as xn--, and of a path as %XX."
        )
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").removesuffix("."), parts.port
    except ValueError:
        raise Refused(_FORM) from None
    if parts.scheme not in _PORTS or not (_NAME.fullmatch(host) or _is_ipv6(host)) or port == 0:
        raise Refused(_FORM)
    if "@" in parts.netloc:
        raise Refused(
            "Leave user and password out of the URL. The receiver knows a message by its signature."
        )
    destination = Destination(
        scheme=parts.scheme,
        host=host,
        port=port or _PORTS[parts.scheme],
        target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
    )
    literal = _literal(host)
    if literal is not None:
        check([literal], private=private)
    elif host in _CREDENTIALS:
        raise Refused(_NEVER)
    elif not private and _is_local(host):
        raise Refused(_PRIVATE)
    return destination


def resolve(destination: Destination, *, private: bool, seconds: float) -> list[Address]:
    """Return the addresses of a destination, all of them checked.

    Raises:
        Refused: one of the addresses is forbidden.
        Unresolved: there is no address, or no answer within `seconds`.
    """
    literal = _literal(destination.host)
    found = [literal] if literal is not None else _look_up(destination, seconds=seconds)
    return check(found, private=private)


def check(addresses: Iterable[Address], *, private: bool) -> list[Address]:
    """Return the addresses, or raise Refused if one of them is forbidden."""
    checked = list(addresses)
    reached = [meant for each in checked for meant in _meant(each)]
    if not all(_may_go(each, private=True) for each in reached):
        raise Refused(_NEVER)
    if not all(_may_go(each, private=private) for each in reached):
        raise Refused(_PRIVATE)
    return checked


def _look_up(destination: Destination, *, seconds: float) -> list[Address]:
    answers: SimpleQueue[list[Address] | None] = SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(destination.host, destination.port, type=socket.SOCK_STREAM)
            answers.put([ip_address(str(each[4][0]).partition("%")[0]) for each in found])
        except (OSError, ValueError):  # ValueError: a label that is too long
            answers.put(None)

    # A daemon, because the resolver's own limit may be far longer, and nothing can interrupt it.
    Thread(target=ask, name="webhook-name", daemon=True).start()
    try:
        addresses = answers.get(timeout=seconds)
    except Empty:
        addresses = None
    if not addresses:
        raise Unresolved
    return list(dict.fromkeys(addresses))


def _literal(host: str) -> Address | None:
    """Return the address that a host is, in any form that a resolver takes: 127.1, 0x7f000001."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _is_ipv6(host: str) -> bool:
    return ":" in host and "%" not in host and isinstance(_literal(host), IPv6Address)


def _is_local(host: str) -> bool:
    return any(host == name or host.endswith(f".{name}") for name in _LOCAL)


def _meant(address: Address) -> tuple[Address, ...]:
    """Return the addresses that packets to `address` may reach: those embedded in it as well."""
    if address.version == 4:
        return (address,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address in _NAT64:
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    return (address, *filter(None, (address.sixtofour, *(address.teredo or ()))))


def _may_go(address: Address, *, private: bool) -> bool:
    never = address in _CREDENTIAL_ADDRESSES or address.is_link_local or address.is_multicast
    if never or address.is_unspecified:
        return False
    if address.is_loopback:  # before is_reserved, which ::1 is too
        return private
    if address.is_reserved or (address.version == 4 and address in _THIS_NETWORK):
        return False
    is_public = address.is_global and (address.version == 4 or address in _PUBLIC_IPV6)
    return private or is_public


_FORM = "Write an http or https URL with a host, for example https://hooks.example.org/perfusion."
_PRIVATE = (
    "Webhooks may not go to this address: it is private or local. Use a public address, or ask the "
    "operator of this service about PERFUSION_WEBHOOKS_PRIVATE."
)
_NEVER = (
    "No webhook goes to this address: it is link-local, reserved, or of a service that hands out a "
    "cloud's credentials. Use the public address of a receiver."
)

"""Protect a server without keys. A server that listens on more than loopback requires keys.

Without keys, the server trusts every program on this machine, but not every web page in the
machine's browsers. A page of another site could post to 127.0.0.1, or point its own host name at
this address (DNS rebinding). So the Host header must be a loopback name. An Origin header must name
this server or an allowed origin.
"""

import ipaddress
import re

from starlette.requests import HTTPConnection

from service.errors import Forbidden

_AUTHORITY = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(?::\d*)?")


def is_loopback(host: str) -> bool:
    """Return whether `host`, a name or address without a port, can only name this machine."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def refuse_foreign_pages(connection: HTTPConnection, allowed_origins: tuple[str, ...]) -> None:
    """Raise Forbidden if a page of another site made the request."""
    authority = connection.headers.get("host", "")
    parsed = _AUTHORITY.fullmatch(authority)
    if parsed is None or not is_loopback(parsed["host"]):
        raise Forbidden(
            "foreign-host",
            "Without keys this server answers to localhost only. Open it as http://localhost, "
            "or set PERFUSION_AUTH=required and use a key.",
        )
    origin = connection.headers.get("origin")
    own_origin = f"{connection.scope['scheme']}://{authority}"
    if origin is not None and origin != own_origin and origin not in allowed_origins:
        raise Forbidden(
            "foreign-origin",
            "A page of another origin may not use this server. Name it in PERFUSION_CORS_ORIGINS.",
        )

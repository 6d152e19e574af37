"""One attempt to send a webhook over HTTP.

The message goes to an address that was checked, while the name stays in TLS and in the header
Host. Only the status of the answer counts: its body is not read, and redirects are not followed.
No proxy of the environment is used, because a proxy would resolve the name again.
"""

import asyncio
import functools
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx2

from service.webhooks import addresses
from service.webhooks.addresses import Address, Destination, Refused, Unresolved

_GONE = 410
# A name may have many addresses, and the receiver's time is for all of them.
_MOST_ADDRESSES = 3


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an attempt ended; with `is_final` no other attempt would help."""

    is_delivered: bool
    what: str  # for the log and the row; names neither the URL nor anything of the answer's body
    is_final: bool = False


def post(
    url: str,
    *,
    headers: Mapping[str, str],
    body: str,
    private: bool,
    seconds: float,
    trust: ssl.SSLContext | None = None,
) -> Outcome:
    """Send a message and return how it ended, after about `seconds` at most.

    `private` allows private addresses. `trust` knows the authorities that may vouch for a receiver,
    by default those of the system.
    """
    began = time.monotonic()
    try:
        destination = addresses.parse(url, private=private)
        found = addresses.resolve(destination, private=private, seconds=seconds)
    except Refused:
        return Outcome(is_delivered=False, what="address refused")
    except Unresolved:
        return Outcome(is_delivered=False, what="name not resolved")
    left = max(0.1, began + seconds - time.monotonic())
    return asyncio.run(
        _post(
            destination,
            found[:_MOST_ADDRESSES],
            headers={"Host": destination.authority, "User-Agent": "Perfusion", **headers},
            body=body.encode(),
            seconds=left,
            trust=trust or _system_trust(),
        )
    )


async def _post(
    destination: Destination,
    found: list[Address],
    *,
    headers: Mapping[str, str],
    body: bytes,
    seconds: float,
    trust: ssl.SSLContext,
) -> Outcome:
    # A limit on the whole exchange: a receiver that sends a byte now and then would otherwise
    # occupy this thread for hours.
    try:
        async with asyncio.timeout(seconds):
            status = await _first_answer(
                destination, found, headers=headers, body=body, seconds=seconds, trust=trust
            )
    except (TimeoutError, httpx2.TimeoutException):
        return Outcome(is_delivered=False, what="timeout")
    except (httpx2.TransportError, OSError) as error:
        return Outcome(is_delivered=False, what=type(error).__name__)
    what = f"status {status}"
    return Outcome(is_delivered=200 <= status < 300, what=what, is_final=status == _GONE)


async def _first_answer(
    destination: Destination,
    found: list[Address],
    *,
    headers: Mapping[str, str],
    body: bytes,
    seconds: float,
    trust: ssl.SSLContext,
) -> int:
    """Return the status with which the first address that can be connected to answers."""
    transport = httpx2.AsyncHTTPTransport(verify=trust, trust_env=False)
    async with httpx2.AsyncClient(transport=transport, trust_env=False, timeout=seconds) as client:
        for address in found[:-1]:
            try:
                return await _answer(client, destination, address, headers=headers, body=body)
            except httpx2.ConnectError:
                continue
        return await _answer(client, destination, found[-1], headers=headers, body=body)


async def _answer(
    client: httpx2.AsyncClient,
    destination: Destination,
    address: Address,
    *,
    headers: Mapping[str, str],
    body: bytes,
) -> int:
    async with client.stream(
        "POST",
        destination.url_at(address),
        headers={"Content-Type": "application/json", **headers},
        content=body,
        follow_redirects=False,
        # TLS asks for the name and checks the certificate by it.
        extensions={"sni_hostname": destination.host},
    ) as response:
        return response.status_code


@functools.cache
def _system_trust() -> ssl.SSLContext:
    return httpx2.create_ssl_context()  # honours SSL_CERT_FILE and SSL_CERT_DIR

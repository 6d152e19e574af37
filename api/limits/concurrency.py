"""Limit how many requests of one kind are open at once, for each caller and for the process.

The event loop counts requests between two awaits, so a limit is exact even if requests arrive at
the same moment. An upload or import takes a place before the server reads the body. A request frees
the place when the request is answered or the client has disconnected. Each API process counts its
own requests.
"""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import Counter as Metric

from service.errors import TooManyRequests, Unavailable

MAX_STREAMS_PER_CALLER = 16
MAX_WAITS_PER_CALLER = 16
MAX_UPLOADS_PER_CALLER = 4
MAX_IMPORTS_PER_CALLER = 4
# A caller may hold one of these shares of the spool.
SPOOL_SHARES = 2
# For all callers together: each upload needs a little memory.
MAX_UPLOADS = 16
MAX_IMPORTS = 8
_RETRY_SECONDS = 5


class CallerLimit:
    """A limit per caller: allows `most` requests at once, with `most_bytes` in all their bodies.

    Other requests are refused with `slug` and `detail`.
    """

    def __init__(
        self,
        *,
        most: int,
        slug: str,
        detail: str,
        refused: Metric,
        most_bytes: float = math.inf,
    ) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._slug = slug
        self._detail = detail
        self._refused = refused
        self._held: Counter[str] = Counter()
        self._held_bytes: Counter[str] = Counter()

    @contextmanager
    def hold(self, caller: str, size_bytes: int = 0) -> Iterator[None]:
        """Hold a place and the body's bytes while the block runs, or raise TooManyRequests."""
        bytes_then = self._held_bytes[caller] + size_bytes
        if self._held[caller] >= self._most or bytes_then > self._most_bytes:
            self._refused.inc()
            raise TooManyRequests(self._slug, self._detail, retry_after_seconds=_RETRY_SECONDS)
        self._held[caller] += 1
        self._held_bytes[caller] += size_bytes
        try:
            yield
        finally:
            self._held[caller] -= 1
            self._held_bytes[caller] -= size_bytes
            if not self._held[caller]:
                del self._held[caller], self._held_bytes[caller]


class ProcessLimit:
    """A limit for all callers together: `most` requests at once and `most_bytes` in total."""

    def __init__(self, *, most: int, most_bytes: int) -> None:
        self._free = most
        self._free_bytes = most_bytes

    @contextmanager
    def hold(self, size_bytes: int) -> Iterator[None]:
        """Hold a place and the body's bytes while the block runs, or raise Unavailable."""
        if not self._free or size_bytes > self._free_bytes:
            raise Unavailable(
                "uploads-busy",
                "Too many uploads arrive at this moment. Your upload was not read: send it again "
                "in a few seconds.",
                retry_after_seconds=_RETRY_SECONDS,
            )
        self._free -= 1
        self._free_bytes -= size_bytes
        try:
            yield
        finally:
            self._free += 1
            self._free_bytes += size_bytes


@dataclass(frozen=True)
class Concurrency:
    """The limits of one API process."""

    streams: CallerLimit
    waits: CallerLimit
    uploads: CallerLimit
    imports: CallerLimit
    all_uploads: ProcessLimit
    all_imports: ProcessLimit


def limits(*, spool_bytes: int, max_body_bytes: int, refused: Metric) -> Concurrency:
    """Return the limits of a process; its spool has room for one body of the largest size.

    The uploads of one caller may hold one share of the spool, so that another caller finds room.
    """
    share_bytes = max(spool_bytes // SPOOL_SHARES, max_body_bytes)
    return Concurrency(
        streams=CallerLimit(
            most=MAX_STREAMS_PER_CALLER,
            slug="too-many-streams",
            detail=f"{MAX_STREAMS_PER_CALLER} of your event streams are already open. Close one, "
            "or ask for the job itself every few seconds.",
            refused=refused,
        ),
        waits=CallerLimit(
            most=MAX_WAITS_PER_CALLER,
            slug="too-many-waits",
            detail=f"{MAX_WAITS_PER_CALLER} of your requests already wait for their job's end. "
            "Send this one when one of them is answered, or to /generate without Prefer: wait.",
            refused=refused,
        ),
        uploads=CallerLimit(
            most=MAX_UPLOADS_PER_CALLER,
            slug="too-many-uploads",
            detail=f"At most {MAX_UPLOADS_PER_CALLER} of your uploads may be open at the same "
            f"time, with {share_bytes} bytes in all. Send this one when one of them is answered.",
            refused=refused,
            most_bytes=share_bytes,
        ),
        imports=CallerLimit(
            most=MAX_IMPORTS_PER_CALLER,
            slug="too-many-imports",
            detail=f"{MAX_IMPORTS_PER_CALLER} of your imports are open at this moment, which is "
            "the limit. Send this one when one of them is answered.",
            refused=refused,
        ),
        all_uploads=ProcessLimit(most=MAX_UPLOADS, most_bytes=max(spool_bytes, max_body_bytes)),
        all_imports=ProcessLimit(most=MAX_IMPORTS, most_bytes=max(spool_bytes, max_body_bytes)),
    )

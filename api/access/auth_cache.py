"""Who calls, as the database said a moment ago.

Looking a key up for each request costs nearly as much as accepting a job, so what a key opens is
known for a second. That long a revoked key still works; a key that opens nothing is asked for
anew each time, and so works as soon as it is made.
"""

import hashlib
import time
from collections.abc import Callable

from service import auth
from service.auth import Caller
from service.wiring import Service

KNOWN_SECONDS = 1.0
# One caller may write her header in many ways.
_MOST_KNOWN = 1000


class Callers:
    """Authenticates, at most once a second for the same header."""

    def __init__(self, service: Service, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._service = service
        self._clock = clock
        self._known: dict[bytes, tuple[float, Caller]] = {}

    def known(self, header: str | None) -> Caller | None:
        """Return the caller that the Authorization `header` stood for a moment ago."""
        until, caller = self._known.get(_digest(header), (0.0, None))
        return caller if self._clock() < until else None

    def authenticate(self, header: str | None, *, key_required: bool) -> Caller:
        """Return the caller that the Authorization `header` stands for, or raise Unauthorized."""
        caller = self.known(header)
        if caller is None:
            asked_at = self._clock()
            caller = auth.authenticate(self._service, header, key_required=key_required)
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[_digest(header)] = (asked_at + KNOWN_SECONDS, caller)
        return caller


def _digest(header: str | None) -> bytes:
    # Not the header itself: what lies in memory for longer must not open anything.
    return b"" if header is None else hashlib.sha256(header.encode()).digest()

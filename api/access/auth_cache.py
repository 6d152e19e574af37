"""Cache the caller of each API key for a second.

Looking up a key costs nearly as much as accepting a job. Because of the cache, a revoked API key
works for up to a second after its revocation. Unknown keys are not cached, so a new key works at
once.
"""

import hashlib
import time
from collections.abc import Callable

from service import auth
from service.auth import Caller
from service.wiring import Service

KNOWN_SECONDS = 1.0
# Limited, because a caller may write one header in many ways, and each way takes an entry.
_MOST_KNOWN = 1000


class AuthCache:
    """Authenticates callers, and looks up the same header at most once a second."""

    def __init__(self, service: Service, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._service = service
        self._clock = clock
        self._known: dict[bytes, tuple[float, Caller]] = {}

    def known(self, header: str | None) -> Caller | None:
        """Return the cached caller of the Authorization `header`; None without a cached caller."""
        until, caller = self._known.get(_digest(header), (0.0, None))
        return caller if self._clock() < until else None

    def authenticate(self, header: str | None, *, key_required: bool) -> Caller:
        """Return the caller of the Authorization `header`, or raise Unauthorized."""
        caller = self.known(header)
        if caller is None:
            asked_at = self._clock()
            caller = auth.authenticate(self._service, header, key_required=key_required)
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[_digest(header)] = (asked_at + KNOWN_SECONDS, caller)
        return caller


def _digest(header: str | None) -> bytes:
    # A hash, because the cache must not keep keys in memory.
    return b"" if header is None else hashlib.sha256(header.encode()).digest()

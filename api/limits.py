"""Requests per minute and caller, and open event streams per caller.

With Redis as the queue the count is shared by every API process. When Redis does not answer, the
count goes on in this process: a limiter must not take the service down with it. What really
protects a device is the limit on queued jobs per owner, which the database keeps.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, Storage, storage_from_string
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.concurrency import run_in_threadpool

from api.metrics import Metrics
from service.errors import TooManyRequests

log = structlog.get_logger("perfusion.api")

MAX_STREAMS_PER_CALLER = 16
_STREAM_RETRY_SECONDS = 5


class Limiter:
    """Counts what each caller does; raises TooManyRequests beyond the limits."""

    def __init__(self, *, requests_per_minute: int, queue_url: str, metrics: Metrics) -> None:
        self._limit = RateLimitItemPerMinute(requests_per_minute)
        self._local = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared = _shared_storage(queue_url)
        self._metrics = metrics
        self._streams: Counter[str] = Counter()

    async def check(self, caller: str) -> None:
        """Count one request of `caller`."""
        if not await self._hit(caller):
            self._metrics.limited.inc()
            raise TooManyRequests(
                "too-many-requests",
                f"More than {self._limit.amount} requests in a minute; wait a little.",
                retry_after_seconds=max(1, 60 // self._limit.amount),
            )

    def check_streams(self, caller: str) -> None:
        """Raise TooManyRequests if the caller may not open one more event stream."""
        if self._streams[caller] >= MAX_STREAMS_PER_CALLER:
            self._metrics.limited.inc()
            raise TooManyRequests(
                "too-many-streams",
                f"{MAX_STREAMS_PER_CALLER} event streams are open already; close one, "
                "or ask for the job itself every few seconds.",
                retry_after_seconds=_STREAM_RETRY_SECONDS,
            )

    @contextmanager
    def stream(self, caller: str) -> Iterator[None]:
        """Count one open event stream. Streams live on the event loop, so no lock is needed."""
        self._streams[caller] += 1
        self._metrics.streams.inc()
        try:
            yield
        finally:
            self._metrics.streams.dec()
            self._streams[caller] -= 1
            if not self._streams[caller]:
                del self._streams[caller]

    async def _hit(self, caller: str) -> bool:
        if self._shared is not None:
            try:
                return await run_in_threadpool(self._shared.hit, self._limit, caller)
            except Exception as error:
                # Any error of a Redis client: all of them mean "cannot count over there".
                self._metrics.limiter_fallbacks.inc()
                log.warning("limits.shared_storage_failed", error=type(error).__name__)
        return self._local.hit(self._limit, caller)


def _shared_storage(queue_url: str) -> SlidingWindowCounterRateLimiter | None:
    if not queue_url.startswith(("redis://", "rediss://")):
        return None
    # Short timeouts: a half-open connection must not hold a request for minutes.
    storage = storage_from_string(
        queue_url, socket_timeout=0.5, socket_connect_timeout=0.5, key_prefix="perfusion:limits"
    )
    assert isinstance(storage, Storage)
    return SlidingWindowCounterRateLimiter(storage)

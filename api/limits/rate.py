"""Limit each caller's requests per minute; concurrency.py limits how many are open at once.

If the queue is Redis, all API processes share the count. If Redis does not answer, each process
counts alone, because the limiter must not stop the service. The actual protection of a device is
the limit on queued jobs per owner, which the database enforces.

Counting may wait for Redis. So if the limit is high, one call also counts the caller's next few
requests. Most requests then need no call to Redis.
"""

import time
from threading import Lock

import redis
import structlog
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis.backoff import NoBackoff
from redis.retry import Retry

from api.metrics import Metrics
from service.errors import TooManyRequests

log = structlog.get_logger("perfusion.api")

# The longest wait of a request for Redis, and the pause without Redis after a failure, in seconds.
_REDIS_SECONDS = 0.25
_PAUSE_SECONDS = 5
# The most requests that are counted ahead in one call; usually it is a second's share of the limit.
# The caller loses requests that were counted ahead but not made within a minute.
_MOST_AHEAD = 10
_AHEAD_SECONDS = 60


class Limiter:
    """Counts each caller's requests; raises TooManyRequests above the limit."""

    def __init__(self, *, requests_per_minute: int, queue_url: str, metrics: Metrics) -> None:
        self._limit = RateLimitItemPerMinute(requests_per_minute)
        self._local = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared = _shared_counts(queue_url)
        self._paused_until = 0.0
        self._metrics = metrics
        self._block = max(1, min(_MOST_AHEAD, requests_per_minute // 60))
        self._ahead: dict[str, tuple[float, int]] = {}
        self._lock = Lock()

    def counted(self, caller: str) -> bool:
        """Use up one request that was counted ahead for `caller`; return whether one existed."""
        with self._lock:
            until, left = self._ahead.pop(caller, (0.0, 0))
            if not left or time.monotonic() >= until:
                return False
            self._ahead[caller] = (until, left - 1)
            return True

    def check_often(self, caller: str) -> None:
        """Count several requests of `caller` ahead; count only one if several exceed the limit."""
        if self._block == 1 or not self._hit(caller, requests=self._block):
            self.check(caller)
            return
        with self._lock:
            self._ahead[caller] = (time.monotonic() + _AHEAD_SECONDS, self._block - 1)

    def check(self, caller: str) -> None:
        """Count one request of `caller`; wait for Redis for 0.25 s at most."""
        if not self._hit(caller):
            self._metrics.limited.inc()
            raise TooManyRequests(
                "too-many-requests",
                f"More than {self._limit.amount} requests in a minute; wait a little.",
                retry_after_seconds=max(1, 60 // self._limit.amount),
            )

    def _hit(self, caller: str, *, requests: int = 1) -> bool:
        shared = self._shared
        if shared is not None and time.monotonic() >= self._paused_until:
            try:
                return shared.hit(self._limit, caller, cost=requests)
            except Exception as error:
                # Any error of the Redis client, because all mean that Redis cannot count now.
                self._paused_until = time.monotonic() + _PAUSE_SECONDS
                log.warning("limits.shared_counts_failed", error=type(error).__name__)
        if shared is not None:
            self._metrics.limiter_fallbacks.inc()
        return self._local.hit(self._limit, caller, cost=requests)


def _shared_counts(queue_url: str) -> SlidingWindowCounterRateLimiter | None:
    if not queue_url.startswith(("redis://", "rediss://")):
        return None
    # No retry, because a hanging connection would hold a request several times as long.
    pool = redis.ConnectionPool.from_url(
        queue_url,
        socket_timeout=_REDIS_SECONDS,
        socket_connect_timeout=_REDIS_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    storage = RedisStorage(queue_url, connection_pool=pool, key_prefix="perfusion:limits")
    return SlidingWindowCounterRateLimiter(storage)

"""Workers that only sleep: they load the servers as real workers do, but they compute nothing.

Each worker has its own rhythm. A few threads act for all workers, each with one connection. If an
action starts late, the threads cannot keep up, and so neither can the servers or this machine.
"""

import heapq
import itertools
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from service import workers
from service.errors import Unavailable
from service.execution import leases, reconciler
from service.jobs.lease_types import ClaimedJob, NewImage
from service.jobs.views import ProgressView
from service.statuses import Queue
from service.wiring import Service

_THREADS = 8
_HEARTBEAT_SECONDS = 0.5
_POLL_SECONDS = 1.0


@dataclass
class Done:
    """How often each transaction was made, how long it took, and how late it began."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    late_seconds: list[float] = field(default_factory=list)
    cpu_seconds: float = 0.0
    refused: int = 0

    def __add__(self, other: "Done") -> "Done":
        names = self.seconds.keys() | other.seconds.keys()
        return Done(
            {name: self.seconds.get(name, []) + other.seconds.get(name, []) for name in names},
            self.late_seconds + other.late_seconds,
            self.cpu_seconds + other.cpu_seconds,
            self.refused + other.refused,
        )

    @property
    def count(self) -> int:
        """The number of transactions."""
        return sum(map(len, self.seconds.values()))

    @property
    def late_ms(self) -> float:
        """The 99th percentile of the delay between due time and start, in milliseconds."""
        return 1000 * _percentile(self.late_seconds, 99)

    def milliseconds(self, name: str) -> tuple[float, float]:
        """Return the median and the 99th percentile of one kind of transaction."""
        times = self.seconds.get(name, [])
        return 1000 * _percentile(times, 50), 1000 * _percentile(times, 99)


class Crew:
    """Many workers of one process."""

    def __init__(self, service: Service, name: str, *, workers: int, job_seconds: float) -> None:
        self._service = service
        self._names = [f"{name}-{k}" for k in range(workers)]
        self._job_seconds = job_seconds
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._lock = threading.Condition()
        self._over = False
        self._done = Done()

    def run(self, seconds: float) -> Done:
        """Let the workers work for some seconds; return what they did."""
        begun, cpu_seconds = time.monotonic(), time.process_time()
        for name in self._names:
            # Workers start at different moments.
            self._at(begun + random.uniform(0, 1), partial(self._claim, name))
            self._at(begun + random.uniform(0, 2), self._reconcile)
            self._at(begun + random.uniform(0, 5), partial(self._seen, name))
        threads = [threading.Thread(target=self._act) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        with self._lock:
            self._over = True
            self._lock.notify_all()
        for thread in threads:
            thread.join()
        self._done.cpu_seconds = time.process_time() - cpu_seconds
        return self._done

    def _act(self) -> None:
        while True:
            with self._lock:
                while not self._over and (not self._due or self._due[0][0] > time.monotonic()):
                    wait = self._due[0][0] - time.monotonic() if self._due else None
                    self._lock.wait(wait)
                if self._over:
                    return
                due, _, action = heapq.heappop(self._due)
                self._done.late_seconds.append(time.monotonic() - due)
            try:
                action()
            except Unavailable:
                self._done.refused += 1

    def _at(self, due: float, action: Callable[[], None]) -> None:
        with self._lock:
            heapq.heappush(self._due, (due, next(self._order), action))
            self._lock.notify()

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._at(time.monotonic() + seconds, action)

    def _claim(self, name: str) -> None:
        with self._timed("claim"):
            claimed = leases.claim_next(self._service, Queue.GENERATE, worker_id=name)
        if claimed is None:
            self._after(_POLL_SECONDS, partial(self._claim, name))
            return
        ends_at = time.monotonic() + self._job_seconds * random.uniform(0.5, 1.5)
        self._after(_HEARTBEAT_SECONDS, partial(self._heartbeat, name, claimed, ends_at=ends_at))

    def _heartbeat(self, name: str, claimed: ClaimedJob, *, ends_at: float) -> None:
        left = ends_at - time.monotonic()
        if left <= 0:
            image = NewImage(
                index=0, seed=0, width=64, height=64, blob_key="x", sha256="0" * 64, size_bytes=1
            )
            with self._timed("finish"):
                leases.finish_generation(self._service, claimed, images=[image])
            self._claim(name)
            return
        progress = ProgressView(step=max(0, 50 - int(left * 5)), total_steps=50)
        with self._timed("heartbeat"):
            leases.heartbeat(self._service, claimed, progress=progress)
        self._after(
            min(_HEARTBEAT_SECONDS, left), partial(self._heartbeat, name, claimed, ends_at=ends_at)
        )

    def _reconcile(self) -> None:
        with self._timed("reconcile"):
            reconciler.reconcile(self._service)
        self._after(self._service.settings.reconcile_seconds, self._reconcile)

    def _seen(self, name: str) -> None:
        with self._timed("seen"):
            workers.seen(self._service, name, queues=["generate"], device="cpu")
        self._after(self._service.settings.heartbeat_seconds, partial(self._seen, name))

    def _timed(self, name: str) -> "_Timed":
        return _Timed(self._done.seconds.setdefault(name, []))


class _Timed:
    def __init__(self, times: list[float]) -> None:
        self._times = times

    def __enter__(self) -> None:
        self._begun = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._times.append(time.perf_counter() - self._begun)


def _percentile(times: list[float], percent: float) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0

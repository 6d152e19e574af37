"""The thread that keeps the promises: it repairs jobs, and says that this worker is alive.

Any number of processes may do this at once. It survives every exception: a repair that did not
work is a line in the log, and is tried again a moment later.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING

import structlog

from service import collector, reconciler, workers
from service.errors import Unavailable

if TYPE_CHECKING:
    from worker.parts import Parts

_TICK_SECONDS = 0.5
_COLLECT_SECONDS = 3600.0
_FIRST_COLLECT_SECONDS = 60.0
_log = structlog.get_logger("perfusion.worker")


@dataclass
class _Duty:
    """Something to do every so often; `do` returns False to be called again at the next tick."""

    every_seconds: float
    do: Callable[[], bool]
    due_at: float


class Reconciler:
    """Calls the service's repairs again and again, each at its own pace."""

    def __init__(self, parts: "Parts", *, queues: Sequence[str]) -> None:
        self._parts = parts
        self._queues = list(queues)
        self._stopped = Event()
        self._leases_rest_until = 0.0
        self._thread = Thread(target=self._run, name="reconciler", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, and take this worker off the list of live ones."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        self._guarded(self._report_gone)

    def _run(self) -> None:
        settings, now = self._parts.service.settings, time.monotonic()
        duties = [
            _Duty(settings.reconcile_seconds, self._reconcile, now),
            _Duty(settings.heartbeat_seconds, self._report_alive, now),
            _Duty(_COLLECT_SECONDS, self._collect, now + _FIRST_COLLECT_SECONDS),
        ]
        tick = min(_TICK_SECONDS, *(duty.every_seconds for duty in duties))
        while not self._stopped.is_set():
            for duty in duties:
                if time.monotonic() >= duty.due_at and self._guarded(duty.do):
                    duty.due_at = time.monotonic() + duty.every_seconds
            self._stopped.wait(tick)

    def _reconcile(self) -> bool:
        # While the database was away, nobody could renew a lease: let those speak first that live.
        if time.monotonic() < self._leases_rest_until:
            return True
        done = reconciler.reconcile(self._parts.service)
        if done.cancelled or done.requeued or done.failed:
            _log.warning(
                "jobs.repaired",
                cancelled=done.cancelled,
                requeued=done.requeued,
                failed=done.failed,
            )
        return True

    def _report_alive(self) -> bool:
        # A worker without its base model runs nothing, and so does not count as alive.
        if not self._parts.resident.loaded or self._parts.broken.is_set():
            return False
        workers.seen(
            self._parts.service,
            self._parts.worker_id,
            queues=self._queues,
            device=str(self._parts.resident.base().device),
        )
        return True

    def _report_gone(self) -> bool:
        workers.gone(self._parts.service, self._parts.worker_id)
        return True

    def _collect(self) -> bool:
        removed = collector.collect(self._parts.service)
        if removed:
            _log.info("blobs.collected", removed=removed)
        return True

    def _guarded(self, do: Callable[[], bool]) -> bool:
        try:
            return do()
        except Unavailable as error:
            _log.warning("reconciler.fault", problem=error.slug)
            if error.slug == "database-unavailable":
                pause = self._parts.service.settings.heartbeat_seconds
                self._leases_rest_until = time.monotonic() + pause
        except Exception:
            _log.exception("reconciler.failed")
        return True

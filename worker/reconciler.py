"""The thread that keeps the promises: it repairs jobs, and says that a worker is alive. Another one
beside it clears up.

Every worker and every API process runs it. It survives every exception: a repair that did not
work is a line in the log, and is tried again a moment later.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread

import structlog

from service import reconciler
from service.errors import Unavailable
from service.wiring import Service
from worker.collection import Collection

_TICK_SECONDS = 0.5
_log = structlog.get_logger("perfusion.worker")


@dataclass
class _Duty:
    """Something to do every so often; `do` returns False to be called again at the next tick."""

    every_seconds: float
    do: Callable[[], bool]
    due_at: float


class Reconciler:
    """Calls the service's repairs again and again, each at its own pace.

    `report` tells that a worker of this process is alive; False where it is not, yet.
    """

    def __init__(self, service: Service, *, report: Callable[[], bool] | None = None) -> None:
        self._service = service
        self._report = report
        self._stopped = Event()
        self._leases_rest_until = 0.0
        # In a thread of its own, because it takes minutes where there are many jobs.
        self._collection = Collection(service)
        self._thread = Thread(target=self._run, name="reconciler", daemon=True)

    def start(self) -> None:
        """Start both threads."""
        self._thread.start()
        self._collection.start()

    def stop(self) -> None:
        """Stop both threads."""
        self._stopped.set()
        self._collection.stop()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        settings, now = self._service.settings, time.monotonic()
        duties = [
            _Duty(settings.reconcile_seconds, self._reconcile, now),
        ]
        if self._report is not None:
            duties.append(_Duty(settings.heartbeat_seconds, self._report, now))
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
        done = reconciler.reconcile(self._service)
        if done.cancelled or done.requeued or done.failed:
            _log.warning(
                "jobs.repaired",
                cancelled=done.cancelled,
                requeued=done.requeued,
                failed=done.failed,
            )
        return True

    def _guarded(self, do: Callable[[], bool]) -> bool:
        try:
            return do()
        except Unavailable as error:
            _log.warning("reconciler.fault", problem=error.slug)
            if error.slug == "database-unavailable":
                pause = self._service.settings.heartbeat_seconds
                self._leases_rest_until = time.monotonic() + pause
        except Exception:
            _log.exception("reconciler.failed")
        return True

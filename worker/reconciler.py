"""The thread that repairs jobs, and reports that a worker is alive.

Every worker and every API process runs this thread, which also starts the threads of the
collection (collection.py) and of the webhooks (webhooks/sender.py). The reconciler survives every
exception. The reconciler logs a failed repair and tries the repair again a moment later.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread

import structlog

from service.errors import Unavailable
from service.execution import reconciler
from service.wiring import Service
from worker.collection import Collection
from worker.webhooks.sender import WebhookSender

_TICK_SECONDS = 0.5
_log = structlog.get_logger("perfusion.worker")

Clocks = Callable[[], tuple[float, float]]
"""The machine's monotonic clock, and the wall clock, in seconds."""


def _clocks() -> tuple[float, float]:
    return time.monotonic(), time.time()


class _Sleeps:
    """A detector of pauses between two checks: a stopped process or a suspended machine.

    The monotonic clock may stand still while a machine is suspended. The wall clock measures the
    leases on SQLite, so a jump of the wall clock counts as a pause as well.
    """

    def __init__(self, clocks: Clocks, *, longest_seconds: float) -> None:
        self._clocks = clocks
        self._longest_seconds = longest_seconds
        self._checked_at = clocks()

    def has_slept(self) -> bool:
        """Return whether more than `longest_seconds` have passed since the last check."""
        before, self._checked_at = self._checked_at, self._clocks()
        gaps = (now - then for now, then in zip(self._checked_at, before, strict=True))
        return max(gaps) > self._longest_seconds


@dataclass
class _Duty:
    """A periodic task; if `do` returns False, `do` is called again at the next tick."""

    every_seconds: float
    do: Callable[[], bool]
    due_at: float


class Reconciler:
    """The thread that calls the service's repairs periodically, each at its own interval.

    `report` records that the worker of this process is alive; `report` returns False if the worker
    is not ready yet.
    """

    def __init__(
        self,
        service: Service,
        *,
        report: Callable[[], bool] | None = None,
        clocks: Clocks = _clocks,
    ) -> None:
        self._service = service
        self._report = report
        self._clocks = clocks
        # After a pause of this length, a worker of this process may have lost its lease.
        self._sleeps = _Sleeps(clocks, longest_seconds=service.settings.lease_seconds / 2)
        self._stopped = Event()
        self._leases_rest_until = 0.0
        # The collection has its own thread, because it takes minutes if there are many jobs.
        self._collection = Collection(service)
        self._webhooks = WebhookSender(service)
        self._thread = Thread(target=self._run, name="reconciler", daemon=True)

    def start(self) -> None:
        """Start all threads."""
        self._thread.start()
        self._collection.start()
        self._webhooks.start()

    def stop(self) -> None:
        """Stop all threads."""
        self._stopped.set()
        self._collection.stop()
        self._webhooks.stop()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        duties = self._duties()
        tick = min(_TICK_SECONDS, *(duty.every_seconds for duty in duties))
        while not self._stopped.is_set():
            self._do(duties)
            self._stopped.wait(tick)

    def _duties(self) -> list[_Duty]:
        settings, now = self._service.settings, self._now()
        duties = [_Duty(settings.reconcile_seconds, self._reconcile, now)]
        if self._report is not None:
            duties.append(_Duty(settings.heartbeat_seconds, self._report, now))
        return duties

    def _do(self, duties: list[_Duty]) -> None:
        self._may_take()
        for duty in duties:
            if self._now() >= duty.due_at and self._guarded(duty.do):
                duty.due_at = self._now() + duty.every_seconds

    def _now(self) -> float:
        return self._clocks()[0]

    def _may_take(self) -> bool:
        """Return whether jobs may be taken from workers that did not renew their leases.

        While the database was unavailable, or this process and its worker were suspended, no lease
        could be renewed. Afterwards, living workers get the time of two heartbeats to renew their
        leases: a heartbeat that failed just before is tried again after a whole interval, and takes
        its time.
        """
        if self._sleeps.has_slept():
            _log.warning("reconciler.slept")
            self._let_heartbeats_speak()
        return self._now() >= self._leases_rest_until

    def _let_heartbeats_speak(self) -> None:
        self._leases_rest_until = self._now() + 2 * self._service.settings.heartbeat_seconds

    def _reconcile(self) -> bool:
        if not self._may_take():
            return True
        done = reconciler.reconcile(self._service, may_take=self._may_take)
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
                self._let_heartbeats_speak()
        except Exception:
            _log.exception("reconciler.failed")
        return True

"""The heartbeat of a job: renews its lease, writes its progress, and notices a cancellation.

The heartbeat runs in its own thread, because a step may take longer than a lease. The job's work
calls `report` and `check` between steps; `report` and `check` do not access the database.
"""

import time
from collections import deque
from collections.abc import Callable
from threading import Event, Lock, Thread
from types import TracebackType
from typing import TypeVar

import structlog

from service.errors import Unavailable
from service.execution import leases
from service.execution.leases import ClaimedJob, Lease
from service.jobs.views import ProgressView
from service.statuses import Phase
from service.wiring import Service
from worker.errors import CancelRequested, Draining, LeaseLost, LeaseNotRenewed

HANG_SECONDS = 900.0
"""A job hangs if neither it nor any job ahead of it finishes a step for this long.

It then goes back to the queue and spends an attempt; jobs that only waited spend none.
"""

# Twice a second, because people watch the progress and a cancellation should take effect soon.
_LONGEST_INTERVAL_SECONDS = 0.5
_WINDOW_SECONDS = 30.0
# Waiting work calls `keep_alive` often. After this time without a call, it no longer counts as
# waiting.
_WAITING_SECONDS = 30.0
T = TypeVar("T")
_log = structlog.get_logger("perfusion.worker")


class Heartbeat:
    """A context manager inside which the job's lease is renewed.

    The worker sets `leave` when the work must stop; the heartbeat sets `broken` if the job hangs.
    """

    def __init__(
        self, service: Service, claimed: ClaimedJob, *, leave: Event, broken: Event
    ) -> None:
        self._service = service
        self._broken = broken
        self._claimed = claimed
        self._leave = leave
        self._interval = min(service.settings.heartbeat_seconds, _LONGEST_INTERVAL_SECONDS)
        self._stopped = Event()
        self._cancelled = False
        self._lost = False
        self._not_renewed = False
        self._waits_until = 0.0
        self._device_hangs = False
        self._lock = Lock()
        self._reported_at = time.monotonic()
        self._total_steps = 0
        self._steps: deque[tuple[float, int]] = deque()
        self._phase = Phase.LOADING
        self._eta_seconds: float | None = None
        self._finish_step = claimed.finish_step
        self.wants_previews = False
        """Whether a client follows the job and asked for previews."""
        self._thread = Thread(target=self._beat, name=f"heartbeat-{claimed.id}", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def enter(self, phase: Phase) -> None:
        """Say what the work does from now on; the next heartbeat tells the job's owner."""
        with self._lock:
            self._phase = phase

    def report(
        self,
        step: int,
        total_steps: int,
        *,
        seconds_left: Callable[[float | None], float | None] | None = None,
    ) -> None:
        """Record the progress of the work; the next heartbeat writes it to the database.

        `seconds_left` returns the seconds until the job's end, from the seconds per step; None
        means unknown. By default the job takes no time before and after its steps.
        """
        with self._lock:
            self._reported_at = time.monotonic()
            self._total_steps = total_steps
            self._steps.append((self._reported_at, step))
            while self._steps[0][0] < self._reported_at - _WINDOW_SECONDS and len(self._steps) > 2:
                self._steps.popleft()
            pace = self._pace()
            if seconds_left is not None:
                self._eta_seconds = seconds_left(pace)
            else:
                self._eta_seconds = None if pace is None else (total_steps - step) * pace

    def keep_alive(self, moved_at: float, *, on_device: bool) -> None:
        """Record that the work waits for a device that was last active at `moved_at` (monotonic).

        A job that waits for other jobs does not count as hung. If the device makes no progress,
        jobs that are `on_device` count as hung, and jobs that wait for the device leave the worker.
        """
        with self._lock:
            self._reported_at = max(self._reported_at, moved_at)
            self._waits_until = 0.0 if on_device else time.monotonic() + _WAITING_SECONDS

    def check(self) -> None:
        """Raise Interrupted if the work must stop. Call this method between steps."""
        if self._lost:
            raise LeaseLost
        if self._not_renewed:
            raise LeaseNotRenewed
        if self._cancelled:
            raise CancelRequested
        if self._leave.is_set() or self._device_hangs:
            raise Draining

    def must_finish(self, step: int) -> bool:
        """Return whether the owner asked a training that has reached `step` to end now."""
        return self._finish_step is not None and step >= self._finish_step

    def while_waiting(self, moved_at: Callable[[], float]) -> Callable[[bool], None]:
        """Return a callback for work that waits; the callback calls `keep_alive`, then `check`."""

        def wait(on_device: bool) -> None:
            self.keep_alive(moved_at(), on_device=on_device)
            self.check()

        return wait

    def retry_while_unavailable(self, act: Callable[[], T]) -> T:
        """Repeat `act` while the database is unavailable, unless the work must stop.

        The answer to a commit may be lost, so `act` must be safe to repeat, like all lease
        operations.
        """
        while True:
            try:
                return act()
            except Unavailable:
                # If the job no longer runs, an earlier try of this write may have ended it; only
                # another try can tell.
                if not self._lost or self._leave.is_set():
                    self.check()
                self._stopped.wait(self._interval)

    def progress(self) -> ProgressView | None:
        """Return the last reported progress, with the pace of the last half minute."""
        with self._lock:
            if not self._steps:
                return None
            eta = self._eta_seconds
            return ProgressView(
                step=self._steps[-1][1],
                total_steps=self._total_steps,
                seconds_per_step=self._pace(),
                eta_seconds=None if eta is None else round(eta, 1),
            )

    def _pace(self) -> float | None:
        (began, first), (now, last) = self._steps[0], self._steps[-1]
        return (now - began) / (last - first) if last > first else None

    def _beat(self) -> None:
        renewed_at = waiting_at = time.monotonic()
        sent: ProgressView | None = None
        told: Phase | None = None
        while not self._stopped.wait(self._interval):
            if time.monotonic() - waiting_at > self._service.settings.lease_seconds:
                # The whole process was suspended, including the work, so this is not a hang.
                with self._lock:
                    self._reported_at = time.monotonic()
            if time.monotonic() - self._reported_at > HANG_SECONDS and not self._device_hangs:
                self._broken.set()
                self._device_hangs = True
                if time.monotonic() > self._waits_until:
                    _log.critical("job.hangs", job_id=self._claimed.id, seconds=HANG_SECONDS)
                    self._lost = True
                    return
            progress, phase = self.progress(), self._phase
            beginning = time.monotonic()
            try:
                renewal = leases.heartbeat(
                    self._service,
                    self._claimed,
                    progress=None if progress == sent else progress,
                    phase=None if phase is told else phase,
                )
            except Exception as error:
                if not isinstance(error, Unavailable):
                    _log.exception("job.heartbeat_failed", job_id=self._claimed.id)
                # The database is unavailable: go on until another worker may have taken the lease.
                if time.monotonic() - renewed_at > self._service.settings.lease_seconds:
                    _log.warning("job.lease_not_renewed", job_id=self._claimed.id)
                    self._not_renewed = True
                    return
                waiting_at = time.monotonic()
                continue
            renewed_at, sent, told = beginning, progress, phase
            if renewal.lease is Lease.LOST:
                self._lost = True
                return
            self._cancelled = renewal.lease is Lease.CANCEL_REQUESTED
            self._finish_step = renewal.finish_step
            self.wants_previews = renewal.wants_previews
            waiting_at = time.monotonic()

"""A worker in threads of this process: inside `perfusion serve`, and the body of worker/main.py.

An embedded worker has the same Celery app, task, claims and leases as a deployment of many
processes. With `memory://` Celery's messages do not leave the process. The caller handles signals,
and calls `stop`.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING

import structlog

from service import workers
from service.errors import Unavailable
from service.statuses import JobKind, LoadingPhase, LoadingState, Queue
from service.wiring import Service
from worker import context as composition
from worker.consumers import Consumers
from worker.context import WorkerContext
from worker.exports import Exports
from worker.reconciler import Reconciler
from worker.runner import Runner, Work

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel

# Several generations may run at once, because they share batches; a training does not.
_GENERATE_SLOTS = 8
_TRAIN_SLOTS = 1
DRAIN_SECONDS = 10.0
"""The time that a stop gives running generations before they go back to the queue."""
_STOP_SECONDS = 40.0
_LAST_STEP_SECONDS = 5.0
_log = structlog.get_logger("perfusion.worker")


class Embedded:
    """A worker in threads. Start the worker once and stop it once; a restart is impossible."""

    def __init__(
        self,
        context: WorkerContext,
        *,
        slots: Mapping[str, int],
        work: Mapping[JobKind, Work] | None = None,
    ) -> None:
        self.context = context
        self._consumers = Consumers(
            context.service.settings,
            run_jobs=Runner(context, work=work).run,
            slots=slots,
            worker_id=context.worker_id,
        )
        self._queues = sorted(slots)
        self._told_phase: LoadingPhase | None = None
        self._tell_at = 0.0
        self._exports = Exports(context)
        self._reconciler = Reconciler(context.service, report=self._report_alive)

    def start(self) -> None:
        """Start every thread, and return before the base model is loaded."""
        self.context.model_loader.start()
        self.context.engine.start()
        self._reconciler.start()
        self._exports.start()
        self._consumers.start()

    def stop(self, *, drain_seconds: float = DRAIN_SECONDS) -> bool:
        """Let trainings save their state and generations finish; wait for all threads.

        Jobs that do not finish in time go back to the queue. Return False if a job does not react
        or a step does not end; such a job goes back to the queue when the job's lease expires.
        """
        began = time.monotonic()
        _log.info("worker.stopping")
        self.context.draining.set()
        self.context.model_loader.stop()
        halt = Thread(target=self._halt_after, args=(drain_seconds,), daemon=True)
        halt.start()
        idle = self._consumers.stop(timeout_seconds=drain_seconds + _STOP_SECONDS)
        self.context.halted.set()
        self._exports.stop()
        # If the consumers are idle, the engine's only work is a step that no job waits for.
        idle = self.context.engine.stop(timeout_seconds=_LAST_STEP_SECONDS) and idle
        self._reconciler.stop()
        self._report_gone()
        _log.info("worker.stopped", idle=idle, seconds=round(time.monotonic() - began, 2))
        return idle

    def _report_alive(self) -> bool:
        context = self.context
        if context.broken.is_set():
            return False
        if not context.model_loader.loaded:
            self._report_loading(context.model_loader.state)
            return False  # called again at the next tick: a loaded worker is reported at once
        workers.seen(
            context.service,
            context.worker_id,
            queues=self._queues,
            device=str(context.model_loader.base().device),
        )
        return True

    def _report_loading(self, state: LoadingState) -> None:
        """Record how far the models are loaded, with each heartbeat and each new phase."""
        if state.phase is not self._told_phase or time.monotonic() >= self._tell_at:
            workers.seen_loading(self.context.service, self.context.worker_id, state=state)
            self._told_phase = state.phase
            self._tell_at = time.monotonic() + self.context.service.settings.heartbeat_seconds

    def _report_gone(self) -> None:
        # If this write fails, the age of the row shows a moment later that the worker is gone.
        with suppress(Unavailable):
            workers.gone(self.context.service, self.context.worker_id)

    def _halt_after(self, seconds: float) -> None:
        if not self.context.halted.wait(seconds):
            self.context.halted.set()


def start(
    service: Service, *, slots: Mapping[str, int] | None = None, base: "BaseModel | None" = None
) -> Embedded:
    """Start a worker on all queues, in threads of this process; `base` may be a loaded model."""
    context = composition.build(service, base=base)
    worker = Embedded(context, slots=default_slots() if slots is None else slots)
    worker.start()
    return worker


def default_slots() -> dict[str, int]:
    """Return the number of jobs of each queue that one process runs at once."""
    return {Queue.GENERATE.value: _GENERATE_SLOTS, Queue.TRAIN.value: _TRAIN_SLOTS}

"""Celery consumers in threads of this process: one per queue, each with its own slots.

Two consumers and not one, so that trainings, which are long, can never take the slots that
generations wait for. The pool is threads: one model in memory serves them all, and CUDA cannot be
forked. Signals are left to the main thread.
"""

# mypy: disallow-untyped-calls=False, disallow-subclassing-any=False

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event, Thread
from typing import Any

import structlog
from celery import Celery
from celery.concurrency.thread import TaskPool
from celery.worker import state as celery_state

from service.queue import TASK_NAME
from service.settings.environment import Settings
from service.statuses import JobKind
from worker import celery_app

_RESTART_SECONDS = 1.0
_log = structlog.get_logger("perfusion.worker")


class Consumers:
    """Listens to queues and calls `run_jobs(kind)` for each message, until stopped."""

    def __init__(
        self,
        settings: Settings,
        *,
        run_jobs: Callable[[JobKind], None],
        slots: Mapping[str, int],
        worker_id: str,
    ) -> None:
        """`slots` says how many jobs of each queue may run at once."""
        self._settings = settings
        self._run_jobs = run_jobs
        self._slots = dict(slots)
        self._worker_id = worker_id
        self._stopping = Event()
        self._threads: list[Thread] = []

    def start(self) -> None:
        """Begin to listen. A broker that is away is waited for."""
        for queue, slots in self._slots.items():
            thread = Thread(target=self._listen, args=(queue, slots), name=f"consume-{queue}")
            thread.start()
            self._threads.append(thread)

    def stop(self, *, timeout_seconds: float) -> bool:
        """Take no more messages and wait for running jobs; False where some are left running."""
        self._stopping.set()
        # Celery's own way to end a consumer from outside; it is one flag for the whole process.
        state: Any = celery_state
        state.should_stop = 0
        try:
            if self._settings.queue_url == "memory://":
                self._wake()
            give_up_at = time.monotonic() + timeout_seconds
            for thread in self._threads:
                thread.join(max(0.0, give_up_at - time.monotonic()))
        finally:
            state.should_stop = None
        return not any(thread.is_alive() for thread in self._threads)

    def _listen(self, queue: str, slots: int) -> None:
        while not self._stopping.is_set():
            app = self._app(queue)
            try:
                controller: Any = app.WorkController(
                    hostname=f"{queue}@{self._worker_id}",
                    pool_cls=_Threads,
                    concurrency=slots,
                    queues=[queue],
                    loglevel="WARNING",
                    without_gossip=True,
                    without_mingle=True,
                    without_heartbeat=True,
                    # Celery's event loop is one per process; two consumers need the plain loop.
                    use_eventloop=False,
                )
                controller.start()
            except Exception:
                _log.exception("consumer.failed", queue=queue)
            finally:
                app.close()
            # A consumer that ends by itself has met a fault: begin anew, with a fresh connection.
            if not self._stopping.wait(_RESTART_SECONDS):
                _log.warning("consumer.restarted", queue=queue)

    def _app(self, queue: str) -> Celery:
        return celery_app.create(
            self._settings, run_job=lambda _job_id: self._run_jobs(JobKind(queue))
        )

    def _wake(self) -> None:
        # A consumer checks the flag after its next message, or after two seconds without one, and
        # then waits once more. In memory messages are cheap, and these name no job.
        for queue in [*self._slots, *self._slots]:
            with self._app(queue) as app, suppress(Exception):
                app.send_task(TASK_NAME, args=[""], queue=queue, ignore_result=True)


class _Threads(TaskPool):
    """Celery's pool of threads, where each thread knows its app.

    Celery looks tasks up in the thread's current app. In a new thread that would be the default
    app, which is none of ours.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.executor = ThreadPoolExecutor(
            max_workers=self.limit,
            thread_name_prefix="job",
            initializer=self.app.set_current,
        )

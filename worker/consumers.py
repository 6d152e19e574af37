"""Celery consumers in threads of this process: one consumer with its own slots per queue.

Each queue has its own consumer, so that long trainings can never occupy the slots of generations.
Each consumer's pool consists of threads, because all jobs share one model in memory, and because
CUDA does not survive a fork. Only the main thread handles signals.
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
from service.statuses import Queue
from worker import celery_app

_RESTART_SECONDS = 1.0
_log = structlog.get_logger("perfusion.worker")


class Consumers:
    """Consumers that call `run_jobs(queue)` for each message of their queues, until stopped."""

    def __init__(
        self,
        settings: Settings,
        *,
        run_jobs: Callable[[Queue], None],
        slots: Mapping[str, int],
        worker_id: str,
    ) -> None:
        """Prepare the consumers; `slots` limits how many jobs of each queue run at once."""
        self._settings = settings
        self._run_jobs = run_jobs
        self._slots = dict(slots)
        self._worker_id = worker_id
        self._stopping = Event()
        self._threads: list[Thread] = []

    def start(self) -> None:
        """Start to listen; keep trying if the broker is not reachable."""
        for queue, slots in self._slots.items():
            thread = Thread(target=self._listen, args=(queue, slots), name=f"consume-{queue}")
            thread.start()
            self._threads.append(thread)

    def stop(self, *, timeout_seconds: float) -> bool:
        """Take no more messages and wait for running jobs; return False if some still run."""
        self._stopping.set()
        # This is Celery's way to stop a consumer from outside: one flag for the whole process.
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
                    # A process has only one Celery event loop, so two consumers need the plain
                    # loop.
                    use_eventloop=False,
                )
                controller.start()
            except Exception:
                _log.exception("consumer.failed", queue=queue)
            finally:
                app.close()
            # A consumer that ends without `stop` had a fault, so it is restarted with a new
            # connection.
            if not self._stopping.wait(_RESTART_SECONDS):
                _log.warning("consumer.restarted", queue=queue)

    def _app(self, queue: str) -> Celery:
        return celery_app.create(
            self._settings, run_job=lambda _job_id: self._run_jobs(Queue(queue))
        )

    def _wake(self) -> None:
        # A consumer checks the flag after each message, or after two seconds without a message, and
        # then waits once more. So two empty messages per queue end the waits; with an in-memory
        # broker they cost little.
        for queue in [*self._slots, *self._slots]:
            with self._app(queue) as app, suppress(Exception):
                app.send_task(TASK_NAME, args=[""], queue=queue, ignore_result=True)


class _Threads(TaskPool):
    """Celery's pool of threads, in which the current app of each thread is set.

    Celery looks up tasks in the thread's current app. The current app of a new thread would be
    Celery's default app, which does not have the worker's tasks.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.executor = ThreadPoolExecutor(
            max_workers=self.limit,
            thread_name_prefix="job",
            initializer=self.app.set_current,
        )

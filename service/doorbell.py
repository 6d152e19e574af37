"""The doorbell: a Celery message that says "a job waits" (it names one), and nothing else.

The job row is the truth, so a message may be lost or doubled without harm: the reconciler rings
again, and a second claim finds nothing to do. Ringing therefore never fails a request; it is
bounded in time and its failure is logged.
"""

# mypy: disallow-untyped-calls=False

import time
from contextlib import suppress
from typing import Any, Protocol

import structlog
from celery import Celery

from service.views import JobKind

TASK_NAME = "perfusion.job"
_log = structlog.get_logger()

# Measured: with these a publish against a refused or half-open Redis gives up in 2 s at most;
# Celery's own defaults block for more than 25 s.
_REDIS_OPTIONS: dict[str, Any] = {
    "socket_timeout": 2,
    "socket_connect_timeout": 1,
    "socket_keepalive": True,
    "health_check_interval": 10,
    "max_retries": 0,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
}


# A queue that did not answer is left alone for a while: each try costs its caller up to 2 s.
_REST_SECONDS = 2.0


class Doorbell(Protocol):
    """Tells workers that a job waits."""

    def ring(self, job_id: str, kind: JobKind) -> bool:
        """Publish the job's id; False (and a log line) where that did not work."""

    def unheard(self, kind: JobKind) -> int:
        """Return how many messages nobody has taken yet; 0 where that cannot be said."""

    def check(self) -> None:
        """Raise an exception unless the queue answers."""

    def close(self) -> None:
        """Close the connections."""


class CeleryDoorbell:
    """Rings through Celery's broker, in the queue named after the job's kind."""

    def __init__(self, queue_url: str) -> None:
        self._rests_until = 0.0
        # Not set as current: the worker's own app of the same process must stay the current one.
        # A host's name is of no meaning in memory, but kombu complains where none is given.
        broker = "memory://localhost//" if queue_url == "memory://" else queue_url
        self._app = Celery("perfusion-doorbell", broker=broker, set_as_current=False)
        self._app.conf.update(
            result_backend=None,
            task_ignore_result=True,
            task_publish_retry=False,
            task_serializer="json",
            accept_content=["json"],
            broker_transport_options={} if queue_url == "memory://" else _REDIS_OPTIONS,
        )

    def ring(self, job_id: str, kind: JobKind) -> bool:
        """Publish the job's id; False (and a log line) where that did not work."""
        if time.monotonic() < self._rests_until:
            return False
        try:
            self._app.send_task(
                TASK_NAME, args=[job_id], queue=kind.value, ignore_result=True, retry=False
            )
        except Exception as error:  # whatever the broker's client raises: the reconciler repairs it
            _log.warning("doorbell_failed", job_id=job_id, error=type(error).__name__)
            self._rests_until = time.monotonic() + _REST_SECONDS
            return False
        return True

    def unheard(self, kind: JobKind) -> int:
        """Return how many messages nobody has taken yet; 0 where that cannot be said."""
        # A queue without messages does not exist for the broker; one that is away fails to ring.
        with suppress(Exception), self._app.connection_or_acquire() as connection:
            queue = connection.default_channel.queue_declare(queue=kind.value, passive=True)
            return int(queue.message_count)
        return 0

    def check(self) -> None:
        """Raise an exception unless the queue answers."""
        with self._app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=2)

    def close(self) -> None:
        """Close the connections."""
        self._app.close()

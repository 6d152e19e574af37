"""Notify workers by Celery messages. A message contains only the id of a job that waits.

The job row is the truth, so a message may be lost or repeated without harm: the reconciler notifies
again, and a second claim finds nothing to do. A notification must never fail or delay a request. So
a notification has a time limit, and its failure is only logged.
"""

# mypy: disallow-untyped-calls=False, disallow-subclassing-any=False

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from threading import Lock
from typing import Any, Protocol

import structlog
from celery import Celery
from kombu import Connection, Producer
from kombu.transport import redis

from service.statuses import Queue

TASK_NAME = "perfusion.job"
_log = structlog.get_logger()

# Measured: with these options, publishing to a Redis that refuses or never answers gives up within
# 2 s; with Celery's own defaults it blocks for more than 25 s.
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


# The pause after the queue failed to answer, because each try takes up to 2 s.
_REST_SECONDS = 2.0


class JobNotifier(Protocol):
    """Notifies workers that a job waits."""

    def notify(self, job_id: str, queue: Queue) -> bool:
        """Publish the job's id; return False (and log the error) if publishing failed."""

    def notify_soon(self, job_id: str, queue: Queue) -> None:
        """Publish the job's id from another thread, without waiting."""

    def pending(self, queue: Queue) -> int:
        """Return the number of messages that no worker has taken yet; 0 if not known."""

    def check(self) -> None:
        """Raise an exception unless the queue answers."""

    def close(self) -> None:
        """Close the connections."""


class _Channel(redis.Channel):
    """A channel that keeps its client, because a new client costs more than a message."""

    @cached_property
    def _client(self) -> Any:
        return super()._create_client()

    def _create_client(self, asynchronous: bool = False) -> Any:
        return super()._create_client(asynchronous=True) if asynchronous else self._client


class _Redis(redis.Transport):
    Channel = _Channel


class CeleryNotifier:
    """Notifies through Celery's broker, in the queue in which the job waits."""

    def __init__(self, queue_url: str) -> None:
        # Messages are sent one by one, over one connection that stays open.
        self._lock = Lock()
        self._sender = ThreadPoolExecutor(max_workers=1, thread_name_prefix="notifier")
        self._producer: Producer | None = None
        self._retry_at = 0.0
        # Not set as Celery's current app, because the worker's app in this process must stay
        # current. The host has no meaning for memory://, but kombu complains if it is missing.
        broker = "memory://localhost//" if queue_url == "memory://" else queue_url
        self._app = Celery("perfusion-notifier", broker=broker, set_as_current=False)
        self._app.conf.update(
            result_backend=None,
            task_ignore_result=True,
            task_publish_retry=False,
            task_serializer="json",
            accept_content=["json"],
            broker_transport_options={} if queue_url == "memory://" else _REDIS_OPTIONS,
        )
        self._message = self._app.amqp.as_task_v2("", TASK_NAME, args=(), ignore_result=True)

    def notify(self, job_id: str, queue: Queue) -> bool:
        """Publish the job's id; return False (and log the error) if publishing failed."""
        with self._lock:
            if time.monotonic() < self._retry_at:
                return False
            try:
                self._publish(job_id, queue=queue.value)
            except Exception as error:  # whatever the client raises: the reconciler repairs it
                _log.warning("notify_failed", job_id=job_id, error=type(error).__name__)
                self._retry_at = time.monotonic() + _REST_SECONDS
                self._disconnect()
                return False
        return True

    def notify_soon(self, job_id: str, queue: Queue) -> None:
        """Publish the job's id from another thread, without waiting."""
        self._sender.submit(self.notify, job_id, queue)

    def _publish(self, job_id: str, *, queue: str) -> None:
        if self._producer is None:
            self._producer = Producer(self._connect())
        _, kwargs, embedded = self._message.body
        task_id = str(uuid.uuid4())
        self._producer.publish(
            ([job_id], kwargs, embedded),
            routing_key=queue,
            headers=self._message.headers | {"id": task_id, "root_id": task_id},
            correlation_id=task_id,
            serializer="json",
        )

    def _connect(self) -> Connection:
        connection = self._app.connection_for_write()
        if connection.get_transport_cls() is redis.Transport:
            connection.transport_cls = _Redis
        return connection

    def _disconnect(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(Exception):
                producer.connection.close()

    def pending(self, queue: Queue) -> int:
        """Return the number of messages that no worker has taken yet; 0 if not known."""
        # The broker does not know a queue without messages, and may itself be away: both count 0.
        with suppress(Exception), self._app.connection_or_acquire() as connection:
            declared = connection.default_channel.queue_declare(queue=queue.value, passive=True)
            return int(declared.message_count)
        return 0

    def check(self) -> None:
        """Raise an exception unless the queue answers."""
        with self._app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=2)

    def close(self) -> None:
        """Send the remaining messages, and close the connections."""
        self._sender.shutdown()
        self._disconnect()
        self._app.close()

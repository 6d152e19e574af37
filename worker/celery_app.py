"""The Celery app of a worker. The app's only task signals that a job is waiting.

The job's row in the database is authoritative, so few features of Celery are used: messages are
acknowledged early, nothing is retried, and there is no result backend, no ETA and no visibility
timeout. If Celery loses the message of a job, the reconciler sends a new message. If Celery
delivers a message twice, the second claim of the job does nothing.
"""

# mypy: disallow-untyped-calls=False, disallow-untyped-decorators=False

import logging
from collections.abc import Callable
from typing import Any

from celery import Celery

from service.queue import TASK_NAME
from service.settings.environment import Settings

_REDIS_OPTIONS: dict[str, Any] = {
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "health_check_interval": 10,
}
_MEMORY_OPTIONS: dict[str, Any] = {"polling_interval": 0.05}


def create(settings: Settings, *, run_job: Callable[[str], None]) -> Celery:
    """Return an app on `settings.queue_url` with a single task, which calls `run_job(job_id)`."""
    in_memory = settings.queue_url == "memory://"
    app = Celery(
        "perfusion",
        # The host has no meaning for an in-memory broker, but without a host every start logs a
        # warning.
        broker="memory://localhost//" if in_memory else settings.queue_url,
        set_as_current=False,
    )
    app.conf.update(
        task_acks_late=False,
        task_ignore_result=True,
        result_backend=None,
        task_serializer="json",
        accept_content=["json"],
        task_publish_retry=False,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=_MEMORY_OPTIONS if in_memory else _REDIS_OPTIONS,
    )

    # The task is not shared, because every app of this process has its own task of this name.
    @app.task(name=TASK_NAME, shared=False)
    def job(job_id: str) -> None:
        run_job(job_id)

    _quieten_celery()
    return app


def _quieten_celery() -> None:
    # Celery's debug messages print source code, and its log message for each task does not contain
    # a job id. The runner logs the events of a job instead.
    logging.getLogger("celery").setLevel(max(logging.INFO, logging.getLogger().level))
    for chatty in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(chatty).setLevel(logging.WARNING)

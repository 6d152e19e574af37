"""Structured logs: an event and its fields, for people or as JSON lines.

`bound` puts the ids of the request, the job and the worker into the context once, so that every
later line contains these ids. Prompts, keys and file contents are never logged.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from structlog.typing import EventDict, Processor

from perfusion_core.errors import PerfusionError
from service.settings.environment import Settings


def configure(settings: Settings, *, for_command: bool = False) -> None:
    """Set up the logs of this process and of its libraries.

    A command logs no trace of a PerfusionError, because its sentence tells the caller the cause.
    """
    # The fields of perfusion_core's log lines, which arrive through the standard library.
    told = structlog.stdlib.ExtraAdder(allow=["error", "score", "step"])
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([_without_known_traces] if for_command else []),
    ]
    # Tracebacks do not show local variables, because these may contain prompts and settings.
    renderer: list[Processor]
    if settings.log_format == "json":
        exceptions = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        renderer = [
            structlog.processors.ExceptionRenderer(exceptions),
            structlog.processors.JSONRenderer(),
        ]
    else:
        renderer = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, told],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    # These libraries repeat our own lines, log far too much, or log the URLs of webhooks, which may
    # hold a secret.
    for name in (
        "uvicorn.access",
        "botocore",
        "urllib3",
        "PIL",
        "kombu",
        "amqp",
        "alembic",
        "httpx2",
        "httpcore2",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)


def _without_known_traces(logger: object, method: str, line: EventDict) -> EventDict:
    if isinstance(sys.exception(), PerfusionError):
        line.pop("exc_info", None)
    return line


@contextmanager
def bound(**fields: str) -> Iterator[None]:
    """Put `fields` (such as job_id) into every line that is logged inside the block."""
    with structlog.contextvars.bound_contextvars(**fields):
        yield

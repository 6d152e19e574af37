"""The embedded default: a worker inside the server's process, for as long as it serves.

The only place of this package besides the command line that leads to torch, and it does so late:
an API process without a worker imports none of it.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Event

import structlog
from starlette.concurrency import run_in_threadpool

from service.execution import reconciler
from service.wiring import Service

log = structlog.get_logger("perfusion.api")

_LOOK_SECONDS = 0.5


class WorkerFailed(Exception):
    """The embedded worker did not end well: only a new process can go on."""


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[None]:
    """Start the worker, and on leaving stop it at the next step's end and wait for it.

    Raises WorkerFailed on leaving where a job hangs or the device broke.
    """
    from worker import embedded

    # No other process can hold a job here, so whatever runs was cut off by a crash.
    orphans = await run_in_threadpool(reconciler.orphans_at_start, service)
    if orphans:
        log.info("embedded.orphans_requeued", count=orphans)
    worker = await run_in_threadpool(embedded.start, service)
    broken = worker.context.broken
    watch = asyncio.create_task(_stop_server_when(broken))
    try:
        yield
    finally:
        watch.cancel()
        idle = await run_in_threadpool(worker.stop)
    if not idle:
        raise WorkerFailed("a job or a step did not end while the worker was stopping")
    if broken.is_set():
        raise WorkerFailed("the device broke")


async def _stop_server_when(broken: Event) -> None:
    """A device that broke stays broken in this process: end it, and a supervisor starts anew."""
    while not broken.is_set():
        await asyncio.sleep(_LOOK_SECONDS)
    log.critical("embedded.device_broken")
    signal.raise_signal(signal.SIGTERM)

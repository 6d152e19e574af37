"""The embedded default: a worker inside the server's process, for as long as the server runs.

Apart from the command line, only this module of the package imports torch, through the worker. This
module imports the worker late, so that an API process without a worker never imports torch.
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
    """The embedded worker failed; only a new process can continue."""


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[None]:
    """Start the worker; on leaving, stop the worker after its next step and wait for its end.

    Raise WorkerFailed on leaving if a job hangs or the device broke.
    """
    from worker import embedded

    # No other process can run a job here, so every job that the database calls running was
    # interrupted.
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
    """End the process when the device breaks, so that a supervisor starts a new one."""
    while not broken.is_set():
        await asyncio.sleep(_LOOK_SECONDS)
    log.critical("embedded.device_broken")
    signal.raise_signal(signal.SIGTERM)

"""Follow a job: the event stream, and the short wait of `Prefer: wait=N`.

The stream and the wait both read the job's row in a thread a few times a second. The row is the
truth, so a reader sees the same states on every API process. For the same reason a reader can
resume a broken stream on any API process.
"""

import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
from sse_starlette import ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from service.errors import NotFound, Unavailable
from service.jobs import use_cases as jobs
from service.jobs.views import EventPreviews, JobView
from service.wiring import Service

POLL_SECONDS = 0.25
RECHECK_SECONDS = 5
"""Seconds between checks of whether a stream's key is still valid."""
MAX_WAIT_SECONDS = 60
_VERSION = re.compile(r"[0-9]{1,18}")
_SECONDS = re.compile(r"[0-9]{1,9}")


async def follow(
    service: Service,
    owner_id: str,
    *,
    job: JobView,
    last_event_id: int | None,
    allowed: Callable[[], Awaitable[bool]],
) -> AsyncIterator[JobView]:
    """Go through the states of `job` until its end: the present state, then each changed state.

    A state that the reader has already seen (`last_event_id`) is not sent again. The stream ends
    within seconds after the reader is no longer `allowed`.
    """
    sent = (last_event_id, job.queue_position)
    recheck_at = time.monotonic() + RECHECK_SECONDS
    while True:
        if (job.version, job.queue_position) != sent:
            yield job
            sent = (job.version, job.queue_position)
        if job.finished:
            return
        await anyio.sleep(POLL_SECONDS)
        if time.monotonic() >= recheck_at:
            if not await allowed():
                return
            recheck_at = time.monotonic() + RECHECK_SECONDS
        try:
            job = await run_in_threadpool(jobs.get, service, owner_id, job_id=job.id)
        except Unavailable:
            continue  # the database does not answer for a moment; keep-alives continue
        except NotFound:
            return


async def wait_for_end(
    request: Request, service: Service, owner_id: str, *, job_id: str, seconds: float
) -> JobView | None:
    """Return the job if the job ends within `seconds`; else, or if the client has gone, None.

    The job is already accepted, so a database error during the wait must not fail the request.
    """
    deadline = time.monotonic() + seconds
    while True:
        with suppress(Unavailable):
            job = await run_in_threadpool(jobs.get, service, owner_id, job_id=job_id)
            if job.finished:
                return job
        if time.monotonic() + POLL_SECONDS > deadline or await request.is_disconnected():
            return None
        await anyio.sleep(POLL_SECONDS)


class NewestPreviews:
    """Adds to each event of a stream the newest previews, unless the stream has sent them."""

    def __init__(self, watch: Callable[[], Awaitable[EventPreviews | None]] | None) -> None:
        """`watch` asks for previews and returns the newest; None: the reader wants none."""
        self._watch = watch
        self._sent: EventPreviews | None = None

    async def of(self, job: JobView) -> dict[str, Any]:
        """Return the fields `preview` and `previews`; nothing if there are no new previews."""
        if self._watch is None or job.finished:
            return {}
        try:
            newest = await self._watch()
        except (Unavailable, NotFound):
            return {}
        if newest is None or newest == self._sent:
            return {}
        self._sent = newest
        return newest.to_json()


def event_of(job: JobView, *, body: dict[str, Any]) -> ServerSentEvent:
    """Return an event named after the change, with the row's version as id and the job as data."""
    return ServerSentEvent(
        data=json.dumps(body),
        event=job.status.value if job.finished else "progress",
        id=str(job.version),
    )


def last_event_id(header: str | None) -> int | None:
    """Return the version that a resuming reader saw last; None without a valid header."""
    return int(header) if header and _VERSION.fullmatch(header) else None


def wait_seconds(prefer: str | None) -> int | None:
    """Return the `wait` of a Prefer header (RFC 7240), at most a minute; None without `wait`."""
    for preference in (prefer or "").split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        value = value.strip().strip('"')
        if name.strip().lower() == "wait" and _SECONDS.fullmatch(value):
            return min(int(value), MAX_WAIT_SECONDS)
    return None

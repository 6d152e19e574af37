"""The place that an upload of pictures takes, before its body is read."""

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from api.dependencies import State, body_bytes
from service import quota


@contextmanager
def hold(request: Request, state: State, caller: str) -> Iterator[None]:
    """Hold a place for the upload while the block runs; raise TooManyRequests or Unavailable."""
    limits = state["concurrency"]
    size_bytes = body_bytes(request, most=state["service"].settings.max_body_bytes)
    with limits.uploads.hold(caller, size_bytes), limits.all_uploads.hold(size_bytes):
        yield


async def check_room(request: Request, state: State, caller: str) -> None:
    """Raise StorageFull if the caller's storage is used up.

    A request with an idempotency key is not checked, because a repeated request gets its first
    answer.
    """
    limited = state["service"].settings.max_bytes_per_owner is not None
    if limited and "idempotency-key" not in request.headers:
        await run_in_threadpool(quota.check_room, state["service"], caller)

"""Serve the process's health, its readiness, and its metrics."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Annotated, Literal, TypeVar

import anyio
import structlog
from anyio import to_thread
from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Field

from api.dependencies import Observer, State, StateDep
from api.openapi import refusals
from api.query_parameters import refuse_unknown
from service import base_models, deployment, workers
from service.errors import NotReady, Unavailable
from service.views import View
from service.wiring import Service

log = structlog.get_logger("perfusion.api")
router = APIRouter(tags=["service"])

T = TypeVar("T")
# The most seconds for one check, because a caller waits only a few seconds.
_CHECK_SECONDS = 3


class Health(View):
    """The process is alive."""

    status: Literal["ok"]


class Readiness(View):
    """Everything that a request needs is available."""

    status: Literal["ready"]
    checks: dict[str, bool]
    warnings: Annotated[
        list[str],
        Field(description="Sentences for the operator: what needs attention but stops no request."),
    ]


@router.get(
    "/healthz",
    summary="Is the process alive?",
    response_model=Health,
    responses=refusals(422, always=()),
    dependencies=[Depends(refuse_unknown)],
)
async def check_health() -> JSONResponse:
    """Answer without any check. `readyz` needs no key."""
    return JSONResponse(Health(status="ok").to_json())


@router.get(
    "/readyz",
    summary="Can it work?",
    response_model=Readiness,
    responses=refusals(422, 503, always=()),
    dependencies=[Depends(refuse_unknown)],
)
async def check_readiness(state: StateDep) -> JSONResponse:
    """Check that database, blobs, queue and a worker answer, and that database and blobs match.

    An answer of 503 names the failed checks; its `workers` say how far they have loaded their
    models, or why they could not. `warnings` tells the operator what needs attention. `readyz`
    needs no key.
    """
    missing = await _missing(state)
    if missing:
        loading = await _read(state, workers.loading) if "database" not in missing else []
        sentences = dict.fromkeys(worker.detail for worker in loading)
        raise NotReady(
            "not-ready",
            " ".join((f"Not ready. Missing: {', '.join(missing)}.", *sentences)),
            workers=loading,
        )
    warnings = [*state["service"].notices.values(), *await _read(state, base_models.warnings)]
    checks = dict.fromkeys((*_CHECKS, *_LATER_CHECKS), True)
    return JSONResponse(Readiness(status="ready", checks=checks, warnings=warnings).to_json())


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=PlainTextResponse,
    responses=refusals(always=(401, 403, 422, 429, 503)),
)
def get_metrics(state: StateDep, _: Observer) -> Response:
    """Return counts of requests, jobs, waiting times and live workers in Prometheus' text format.

    The counts include all owners' requests and jobs, so the caller needs a key with the scope
    `metrics`.
    """
    return Response(state["metrics"].render(), media_type=CONTENT_TYPE_LATEST)


async def _read(state: State, read: Callable[[Service], list[T]]) -> list[T]:
    """Return what `read` finds in the database; nothing if the database does not answer in time."""
    with anyio.move_on_after(_CHECK_SECONDS), suppress(Unavailable):
        return await to_thread.run_sync(
            read, state["service"], abandon_on_cancel=True, limiter=state["checks"]
        )
    return []


class _NoWorker(Exception):
    """No worker has sent a heartbeat within the time of a lease."""


def _check_worker(service: Service) -> None:
    if not workers.live(service):
        raise _NoWorker


_CHECKS: dict[str, Callable[[Service], None]] = {
    "database": lambda service: service.database.check(),
    "blobs": lambda service: service.blobs.check(),
    "queue": lambda service: service.notifier.check(),
    "worker": _check_worker,
}
# Runs only if the others pass, because it needs database and blobs.
_LATER_CHECKS: dict[str, Callable[[Service], None]] = {"deployment": deployment.check}


async def _missing(state: State) -> list[str]:
    """Return the names of the checks that fail."""
    return await _failing(state, _CHECKS) or await _failing(state, _LATER_CHECKS)


async def _failing(state: State, checks: Mapping[str, Callable[[Service], None]]) -> list[str]:
    """Return the names of `checks` that fail or take too long; run all checks at once."""
    passed: set[str] = set()

    async def make(name: str) -> None:
        with anyio.move_on_after(_CHECK_SECONDS):
            if await to_thread.run_sync(
                _passes,
                name,
                checks[name],
                state["service"],
                abandon_on_cancel=True,
                limiter=state["checks"],
            ):
                passed.add(name)

    async with anyio.create_task_group() as group:
        for name in checks:
            group.start_soon(make, name)
    return [name for name in checks if name not in passed]


def _passes(name: str, check: Callable[[Service], None], service: Service) -> bool:
    try:
        check(service)
    except Exception as error:
        # Any error of a client library means that the check fails; the log names the error.
        log.debug("readyz.failed", check=name, error=type(error).__name__)
        return False
    return True

"""Whether the process lives, whether it can work, and what it counts."""

from collections.abc import Callable

import structlog
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from api import schemas
from api.dependencies import Caller, ServiceDep, StateDep
from api.openapi import refusals
from service import workers
from service.errors import Unavailable
from service.wiring import Service

log = structlog.get_logger("perfusion.api")
router = APIRouter(tags=["service"])

_RETRY_SECONDS = 5


@router.get(
    "/healthz",
    summary="Is the process alive?",
    response_model=schemas.Health,
    responses=refusals(always=()),
)
async def healthz() -> JSONResponse:
    """Answers without touching anything, and needs no key."""
    return JSONResponse({"status": "ok"})


@router.get(
    "/readyz",
    summary="Can it work?",
    response_model=schemas.Readiness,
    responses=refusals(503, always=()),
)
def readyz(service: ServiceDep) -> JSONResponse:
    """Database, blobs, queue and a live worker; 503 names what is missing. Needs no key."""
    missing = [name for name, check in _CHECKS.items() if not _passes(name, check, service)]
    if missing:
        raise Unavailable(
            "not-ready",
            f"Not ready. Missing: {', '.join(missing)}.",
            retry_after_seconds=_RETRY_SECONDS,
        )
    return JSONResponse({"status": "ready", "checks": dict.fromkeys(_CHECKS, True)})


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=PlainTextResponse,
    responses=refusals(always=(401, 403, 429, 503)),
)
def metrics(state: StateDep, _: Caller) -> Response:
    """Requests, jobs by kind and status, open streams, in the text format."""
    return Response(state["metrics"].render(), media_type=CONTENT_TYPE_LATEST)


class _NoWorker(Exception):
    """No worker has reported within the time of a lease."""


def _check_worker(service: Service) -> None:
    if not workers.live(service):
        raise _NoWorker


_CHECKS: dict[str, Callable[[Service], None]] = {
    "database": lambda service: service.database.check(),
    "blobs": lambda service: service.blobs.check(),
    "queue": lambda service: service.doorbell.check(),
    "worker": _check_worker,
}


def _passes(name: str, check: Callable[[Service], None], service: Service) -> bool:
    try:
        check(service)
    except Exception as error:
        # Whatever a client library raises: here it means one thing, and the log has its name.
        log.debug("readyz.failed", check=name, error=type(error).__name__)
        return False
    return True

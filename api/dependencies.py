"""What routes are given: the service, the caller, the page of a list, the idempotency key."""

from typing import Annotated, TypedDict, cast

from anyio import CapacityLimiter
from fastapi import Depends, Header, Query, Security
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from api.auth import refuse_foreign_pages
from api.limits import Limiter
from api.metrics import Metrics
from service import auth
from service.errors import Unauthorized
from service.idempotency import Idempotency
from service.views import ConceptStatus, JobKind, JobStatus
from service.wiring import Service


class State(TypedDict):
    """What the application's lifespan gives to every request."""

    service: Service
    uploads: CapacityLimiter  # threads that decode; the others stay free for everyone else
    limiter: Limiter
    metrics: Metrics
    key_required: bool


async def state_of(request: Request) -> State:
    """The lifespan state, typed."""
    return cast(State, request.state)


StateDep = Annotated[State, Depends(state_of)]


async def _service(state: StateDep) -> Service:
    return state["service"]


# Only so that OpenAPI names the scheme; the header itself is read by service.auth.
_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    description="An API key, `sk_...`. Needed on every address but loopback.",
)


async def _caller(
    request: Request, state: StateDep, _: Annotated[object, Security(_bearer)]
) -> str:
    service, limiter = state["service"], state["limiter"]
    header = request.headers.get("authorization")
    if header is None and not state["key_required"]:
        refuse_foreign_pages(request, service.settings.cors_origins)
        await limiter.check(f"owner:{auth.LOCAL_OWNER}")
        return auth.LOCAL_OWNER
    try:
        owner_id = await run_in_threadpool(
            auth.authenticate, service, header, key_required=state["key_required"]
        )
    except Unauthorized:
        # Guessing is limited by address, since there is no owner yet to count on.
        await limiter.check(f"address:{request.client.host if request.client else ''}")
        raise
    await limiter.check(f"owner:{owner_id}")
    return owner_id


ServiceDep = Annotated[Service, Depends(_service)]
Caller = Annotated[str, Depends(_caller)]


async def _idempotency(
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            description="Kept 24 hours: the same key and request give the first answer again.",
        ),
    ] = None,
) -> Idempotency | None:
    return None if key is None else Idempotency(key)


OptionalIdempotency = Annotated[Idempotency | None, Depends(_idempotency)]


class _ListQuery(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=100, description="Items of one page.")] = 20
    cursor: Annotated[
        str | None, Field(max_length=512, description="`next_cursor` of the page before.")
    ] = None


class ConceptListQuery(_ListQuery):
    """The query of GET /concepts."""

    status: Annotated[ConceptStatus | None, Field(description="Only these.")] = None


class JobListQuery(_ListQuery):
    """The query of GET /jobs."""

    status: Annotated[JobStatus | None, Field(description="Only these.")] = None
    kind: Annotated[JobKind | None, Field(description="Only these.")] = None


ConceptList = Annotated[ConceptListQuery, Query()]
JobList = Annotated[JobListQuery, Query()]

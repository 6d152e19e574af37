"""What routes are given: the service, the caller, the page of a list, the idempotency key."""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, TypedDict, TypeVar, cast

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Header, Path, Query, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from api.access.auth import refuse_foreign_pages
from api.access.auth_cache import AuthCache
from api.limits.concurrency import Concurrency
from api.limits.rate import Limiter
from api.metrics import Metrics
from api.signed_urls import SignedUrls
from service import auth
from service.auth import Scope
from service.errors import Forbidden, Unauthorized, Unavailable
from service.idempotency import Idempotency
from service.pages import DEFAULT_LIMIT, MAX_CURSOR_LENGTH, MAX_LIMIT
from service.statuses import ConceptStatus, JobKind, JobStatus
from service.wiring import Service

T = TypeVar("T")
_CALLER = "perfusion.caller"  # in the scope of a request whose caller is known


class State(TypedDict):
    """What the application's lifespan gives to every request."""

    service: Service
    uploads: CapacityLimiter  # threads that decode; the others stay free for everyone else
    imports: CapacityLimiter  # threads that read concept files
    files: CapacityLimiter  # threads that wait for the store of blobs, which may be slow
    checks: CapacityLimiter  # threads of /readyz, which may wait for something that hangs
    auth_cache: AuthCache
    limiter: Limiter
    concurrency: Concurrency
    signed_urls: SignedUrls
    metrics: Metrics
    key_required: bool


def state_of(request: Request) -> State:
    """The lifespan state, typed. As a dependency it would cost as much as a statement."""
    return cast(State, request.state)


async def _state(request: Request) -> State:
    return state_of(request)


StateDep = Annotated[State, Depends(_state)]


async def _service(state: StateDep) -> Service:
    return state["service"]


ServiceDep = Annotated[Service, Depends(_service)]


async def with_blobs(state: State, act: Callable[[], T]) -> T:
    """Run `act`, which needs the store of blobs, in a thread kept for that.

    A store that hangs thus holds up nothing but itself, and only so many requests.
    """
    if crowded(state["files"]):
        raise Unavailable(
            "files-busy", "Too many requests wait for files at this moment. Try again soon."
        )
    return await to_thread.run_sync(act, limiter=state["files"])


def body_bytes(request: Request, *, most: int) -> int:
    """The body's Content-Length; `most` if it has none."""
    declared = request.headers.get("content-length", "")
    return min(int(declared[:20]), most) if declared.isdecimal() else most


def crowded(threads: CapacityLimiter) -> bool:
    """Whether as many requests wait for `threads` as there are of them."""
    return threads.statistics().tasks_waiting >= threads.total_tokens


class _Key(SecurityBase):
    """What OpenAPI says about keys; the header itself is read by service.auth."""

    scheme_name = "key"
    model = HTTPBearer(description="An API key, `sk_...`. Needed on every address but loopback.")


class OwnerWith(_Key):
    """The dependency on a caller whose key has one of `scopes`; its value is the owner's id.

    A request's caller is identified and counted once, even if several dependencies ask for it.
    """

    def __init__(self, *scopes: Scope) -> None:
        self._scopes = scopes

    async def __call__(self, request: Request) -> str:
        """Return the owner's id, or raise Unauthorized, Forbidden or TooManyRequests."""
        caller: auth.Caller | None = request.scope.get(_CALLER)
        if caller is None:
            caller = request.scope[_CALLER] = await self._identified(request)
        if not caller.scopes.intersection(self._scopes):
            raise Forbidden(
                "scope-missing",
                "This key may not do that; it takes one with the scope "
                f"{' or '.join(self._scopes)}.",
            )
        return caller.owner_id

    async def _identified(self, request: Request) -> auth.Caller:
        state = state_of(request)
        header = request.headers.get("authorization")
        if header is None and not state["key_required"]:
            refuse_foreign_pages(request, state["service"].settings.cors_origins)
        # Mostly there is nothing to wait for; a thread costs as much as a statement.
        caller = state["auth_cache"].known(header)
        if caller is None or not state["limiter"].counted(f"owner:{caller.owner_id}"):
            caller = await run_in_threadpool(_identify, state, header, address_of(request))
        return caller


def _identify(state: State, header: str | None, address: str) -> auth.Caller:
    """The caller, counted. In one thread: both the database and Redis may be asked."""
    required = state["key_required"]
    try:
        caller = state["auth_cache"].authenticate(header, key_required=required)
    except Unauthorized:
        # Guessing is limited by address, since there is no owner yet to count on.
        state["limiter"].check(f"address:{address}")
        raise
    state["limiter"].check_often(f"owner:{caller.owner_id}")
    return caller


def address_of(request: Request) -> str:
    """The address that the request comes from."""
    return request.client.host if request.client else ""


Caller = Annotated[str, Security(OwnerWith(*Scope))]
Reader = Annotated[str, Security(OwnerWith(Scope.READ))]
Generator = Annotated[str, Security(OwnerWith(Scope.GENERATE))]
Trainer = Annotated[str, Security(OwnerWith(Scope.TRAIN))]
Canceller = Annotated[str, Security(OwnerWith(Scope.GENERATE, Scope.TRAIN))]
Observer = Annotated[str, Security(OwnerWith(Scope.METRICS))]


def may_read(state: State, header: str | None) -> bool:
    """Whether the Authorization `header` still opens what its owner may read."""
    try:
        caller = state["auth_cache"].authenticate(header, key_required=state["key_required"])
    except Unauthorized:
        return False
    except Unavailable:
        return True  # the database is away: streams that are open stay open meanwhile
    return Scope.READ in caller.scopes


async def _authorization(request: Request) -> str | None:
    return request.headers.get("authorization")


Authorization = Annotated[str | None, Depends(_authorization)]


async def _stream_place(state: StateDep, caller: Reader) -> AsyncIterator[None]:
    """One of the caller's places for event streams, until the stream has ended."""
    with state["concurrency"].streams.hold(caller), state["metrics"].streams.track_inprogress():
        yield


StreamPlace = Annotated[None, Depends(_stream_place)]


class _ImageReader(_Key):
    """The dependency on a key that may read, or on a link; its value is None for a link."""

    _by_key = OwnerWith(Scope.READ)

    async def __call__(
        self,
        request: Request,
        id: str,
        expires: Annotated[
            int | None, Query(ge=0, lt=2**40, description="Of a `signed_url`, in place of a key.")
        ] = None,
        sig: Annotated[
            str | None, Query(max_length=64, description="Of a `signed_url`, in place of a key.")
        ] = None,
    ) -> str | None:
        if expires is None and sig is None:
            return await self._by_key(request)
        state = state_of(request)
        limiter = state["limiter"]
        if state["signed_urls"].opens(id, expires=expires or 0, signature=sig or ""):
            await run_in_threadpool(limiter.check, f"image:{id}")
            return None
        await run_in_threadpool(limiter.check, f"address:{address_of(request)}")
        raise Unauthorized(
            "link-not-valid", "This link has expired or is incomplete. Ask for the job again."
        )


ImageReader = Annotated[str | None, Security(_ImageReader())]


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


ConceptRef = Annotated[str, Path(description="The concept's id or name.")]


class _ListQuery(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT, description="Items of one page.")] = (
        DEFAULT_LIMIT
    )
    cursor: Annotated[
        str | None,
        Field(max_length=MAX_CURSOR_LENGTH, description="`next_cursor` of the page before."),
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

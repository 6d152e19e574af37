"""The dependencies of routes: the service, the caller, the page of a list, the idempotency key."""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, TypedDict, TypeVar, cast

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Header, Path, Query, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from api import query_parameters
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
from service.images.search import MAX_QUERY_LENGTH
from service.pages import DEFAULT_LIMIT, MAX_CURSOR_LENGTH, MAX_LIMIT
from service.statuses import ConceptStatus, JobKind, JobStatus
from service.wiring import Service

T = TypeVar("T")
_CALLER = "perfusion.caller"  # in the scope of a request whose caller is known


class State(TypedDict):
    """The values that the application's lifespan passes to every request."""

    service: Service
    uploads: CapacityLimiter  # threads that decode; the other threads stay free for other requests
    imports: CapacityLimiter  # threads that read concept files
    files: CapacityLimiter  # threads that wait for the blob store, which may be slow
    checks: CapacityLimiter  # threads of /readyz, which may wait for something that hangs
    auth_cache: AuthCache
    limiter: Limiter
    concurrency: Concurrency
    signed_urls: SignedUrls
    metrics: Metrics
    key_required: bool


def state_of(request: Request) -> State:
    """Return the typed lifespan state.

    As a dependency, this function would take as long as an SQL statement.
    """
    return cast(State, request.state)


async def _state(request: Request) -> State:
    return state_of(request)


StateDep = Annotated[State, Depends(_state)]


async def _service(state: StateDep) -> Service:
    return state["service"]


ServiceDep = Annotated[Service, Depends(_service)]


async def with_blobs(state: State, act: Callable[[], T]) -> T:
    """Run `act`, which needs the blob store, in a thread reserved for the blob store.

    A blob store that hangs therefore blocks a limited number of requests. Requests that need no
    blobs go on.
    """
    if crowded(state["files"]):
        raise Unavailable(
            "files-busy", "Too many requests wait for files at this moment. Try again soon."
        )
    return await to_thread.run_sync(act, limiter=state["files"])


def body_bytes(request: Request, *, most: int) -> int:
    """Return the body's Content-Length in bytes; `most` if the header is missing."""
    declared = request.headers.get("content-length", "")
    return min(int(declared[:20]), most) if declared.isdecimal() else most


def crowded(threads: CapacityLimiter) -> bool:
    """Return whether at least as many requests wait for `threads` as there are threads."""
    return threads.statistics().tasks_waiting >= threads.total_tokens


class _Key(SecurityBase):
    """The OpenAPI description of keys; service.auth reads the header itself."""

    scheme_name = "key"
    model = HTTPBearer(description="An API key, `sk_...`. Needed on every address but loopback.")


class OwnerWith(_Key):
    """A dependency that requires a key with one of `scopes` and returns the owner's id.

    A request's caller is identified and counted once, even if several dependencies ask for the
    caller. Only then are unknown query parameters refused.
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
        await query_parameters.refuse_unknown(request)
        return caller.owner_id

    async def _identified(self, request: Request) -> auth.Caller:
        state = state_of(request)
        header = request.headers.get("authorization")
        if header is None and not state["key_required"]:
            refuse_foreign_pages(request, state["service"].settings.cors_origins)
        # Usually the cache knows the caller, so no thread is needed; a thread costs as much as a
        # statement.
        caller = state["auth_cache"].known(header)
        if caller is None or not state["limiter"].counted(f"owner:{caller.owner_id}"):
            caller = await run_in_threadpool(_identify, state, header, address_of(request))
        return caller


def _identify(state: State, header: str | None, address: str) -> auth.Caller:
    """Return the caller and count the request.

    Call this function in a thread, because the function may query Redis and SQL.
    """
    required = state["key_required"]
    try:
        caller = state["auth_cache"].authenticate(header, key_required=required)
    except Unauthorized:
        # A wrong key has no owner to count, so guessing is limited by address.
        state["limiter"].check(f"address:{address}")
        raise
    state["limiter"].check_often(f"owner:{caller.owner_id}")
    return caller


def address_of(request: Request) -> str:
    """Return the address that the request comes from."""
    return request.client.host if request.client else ""


Caller = Annotated[str, Security(OwnerWith(*Scope))]
Reader = Annotated[str, Security(OwnerWith(Scope.READ))]
Generator = Annotated[str, Security(OwnerWith(Scope.GENERATE))]
Trainer = Annotated[str, Security(OwnerWith(Scope.TRAIN))]
Canceller = Annotated[str, Security(OwnerWith(Scope.GENERATE, Scope.TRAIN))]
Observer = Annotated[str, Security(OwnerWith(Scope.METRICS))]


def may_read(state: State, header: str | None) -> bool:
    """Return whether the Authorization `header` still allows reading the owner's objects."""
    try:
        caller = state["auth_cache"].authenticate(header, key_required=state["key_required"])
    except Unauthorized:
        return False
    except Unavailable:
        return True  # the database does not answer: keep open streams open meanwhile
    return Scope.READ in caller.scopes


async def _authorization(request: Request) -> str | None:
    return request.headers.get("authorization")


Authorization = Annotated[str | None, Depends(_authorization)]


async def _stream_place(state: StateDep, caller: Reader) -> AsyncIterator[None]:
    """Hold one of the caller's places for event streams until the stream ends."""
    with state["concurrency"].streams.hold(caller), state["metrics"].streams.track_inprogress():
        yield


StreamPlace = Annotated[None, Depends(_stream_place)]


class _ImageReader(_Key):
    """A dependency that requires a key with read scope, or a signed URL; returns None for a URL."""

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
            await query_parameters.refuse_unknown(request)
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
        Field(max_length=MAX_CURSOR_LENGTH, description="`next_cursor` of the previous page."),
    ] = None


class ConceptListQuery(_ListQuery):
    """The query of GET /concepts."""

    status: Annotated[ConceptStatus | None, Field(description="Only these.")] = None


class JobListQuery(_ListQuery):
    """The query of GET /jobs."""

    status: Annotated[JobStatus | None, Field(description="Only these.")] = None
    kind: Annotated[JobKind | None, Field(description="Only these.")] = None


class ImageListQuery(_ListQuery):
    """The query of GET /images."""

    concept: Annotated[
        str | None,
        Field(
            max_length=100,
            description="The id or name of a concept in the prompt; an earlier name, too.",
        ),
    ] = None
    q: Annotated[
        str | None,
        Field(max_length=MAX_QUERY_LENGTH, description="Text in the prompt; case is ignored."),
    ] = None
    job_id: Annotated[str | None, Field(max_length=100, description="Only of this job.")] = None


ConceptList = Annotated[ConceptListQuery, Query()]
ImageList = Annotated[ImageListQuery, Query()]
JobList = Annotated[JobListQuery, Query()]

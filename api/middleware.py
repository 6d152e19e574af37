"""Middleware of every request: id, log line, headers, HEAD, size limit, and unhandled errors.

The classes are plain ASGI, so that the classes handle streams without buffering, and also handle
answers that no route makes.
"""

import asyncio
import re
import time
import uuid
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import quote

import anyio
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.metrics import Metrics
from api.uploads.form_fields import is_form
from service.errors import Unavailable

log = structlog.get_logger("perfusion.api")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_KEY = re.compile(r"sk_[A-Za-z0-9_-]+")
_MAX_LOGGED_PATH = 200
# Seconds without a byte of a body, and seconds for the whole body, before the request is refused.
SILENCE_SECONDS = 30
BODY_SECONDS = 900
_QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})

_API_CSP = "default-src 'none'; frame-ancestors 'none'"
PAGE_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; font-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# What the documentation page needs of it: images that it fetched are blobs, its icons data URLs.
DOCS_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

# The browser page compiles WASM, in a worker whose script carries the policy, too.
BROWSER_PAGE_CSP = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class RequestContext:
    """Gives a request its id, logs and counts it, and adds the security headers.

    RequestContext also turns an unhandled exception into a problem, with the same headers and log
    line. The trace goes to the log only. A request that the server cancels, because it outlived the
    grace of a stop, is answered in the same way; uvicorn itself would answer 500 in plain text.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        begun_s = time.perf_counter()
        status = 0  # 0: the client went away before an answer began

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(MutableHeaders(scope=message), request_id)
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except Exception as error:
            log.exception("request.crashed", method=scope["method"], path=_printable_path(scope))
            if status:
                raise  # half an answer is sent: break the connection, so that the client notices
            response = problems.unexpected(Request(scope), error)
            await response(scope, receive, send_with_headers)
        except asyncio.CancelledError:
            if status:
                raise
            response = problems.from_service_error(Request(scope), _stopping())
            await response(scope, receive, send_with_headers)
        finally:
            self._note(scope, status=status, seconds=time.perf_counter() - begun_s)

    def _note(self, scope: Scope, *, status: int, seconds: float) -> None:
        route: Any = scope.get("route")
        template = getattr(route, "path", None) or "unmatched"
        self.metrics.observe_request(scope["method"], template, status=status, seconds=seconds)
        write = log.debug if scope["path"] in _QUIET_PATHS else log.info
        problem = scope["state"].get("problem")
        write(
            "request",
            method=scope["method"],
            path=_printable_path(scope),
            status=status,
            milliseconds=round(seconds * 1000, 1),
            **({"problem": problem} if problem else {}),
        )


class HeadAsGet:
    """Answers HEAD wherever GET is answered, with the same status and headers and without a body.

    The server ends the answer after its headers, so a stream notices that its reader has gone.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        as_get = {**scope, "method": "GET"}
        ended = False

        async def send_head(message: Message) -> None:
            nonlocal ended
            if message["type"] == "http.response.start":
                await send(message)
            elif not ended:
                ended = True
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        try:
            await self.app(as_get, receive, send_head)
        finally:
            # RequestContext counts the request by its route.
            if "route" in as_get:
                scope["route"] = as_get["route"]


class BodyLimit:
    """Refuses bodies that are too slow, or too large with or without a Content-Length.

    Starlette's own limit answers in plain text and outside every other middleware. This middleware
    raises its error while the route reads the body, so the error becomes a problem (RFC 9457) like
    every other error.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        json_bytes: int,
        upload_bytes: Mapping[str, int],
        takes_json: Collection[str] = (),
    ) -> None:
        self.app = app
        self.json_bytes = json_bytes
        self.upload_bytes = upload_bytes  # by the path of each route that takes files
        self.takes_json = takes_json  # the paths among these that take JSON instead of a form, too

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, counting its body's bytes."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.upload_bytes.get(scope["path"], self.json_bytes)
        if scope["path"] in self.takes_json and not is_form(Headers(scope=scope)):
            limit = self.json_bytes
        too_large = HTTPException(413, problems.body_too_large(limit))
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > limit:
            response = problems.from_http_exception(Request(scope), too_large)
            await response(scope, receive, send)
            return
        seen_bytes, more_body = 0, True
        give_up_at_s = time.monotonic() + BODY_SECONDS

        async def receive_bounded() -> Message:
            nonlocal seen_bytes, more_body
            if not more_body:  # the reader waits for the client to go away
                return await receive()
            try:
                left_s = give_up_at_s - time.monotonic()
                with anyio.fail_after(min(SILENCE_SECONDS, left_s)):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408) from None
            more_body = message.get("more_body", False)
            seen_bytes += len(message.get("body", b""))
            if seen_bytes > limit:
                raise too_large  # readers of bodies let only an HTTPException through
            return message

        await self.app(scope, receive_bounded, send)


def _stopping() -> Unavailable:
    return Unavailable(
        "server-stopping",
        # A thread may still commit what the request asked for.
        "The server stops and could not finish this request in time. Send it again in a moment; "
        "with the same Idempotency-Key nothing is done twice.",
    )


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _printable_path(scope: Scope) -> str:
    """Return the path percent-encoded, as sent, so that no caller can add lines to the log.

    The query and the body are never logged, because queries and bodies may hold prompts and keys. A
    key that a caller puts into the path by mistake is not logged either.
    """
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    path = raw.partition(b"?")[0].decode("latin-1")
    return _KEY.sub("sk_", path)[:_MAX_LOGGED_PATH]


def _add_headers(headers: MutableHeaders, request_id: str) -> None:
    html = headers.get("content-type", "").startswith("text/html")
    headers["X-Request-Id"] = request_id
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers.setdefault("Content-Security-Policy", PAGE_CSP if html else _API_CSP)
    headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    headers.setdefault("Cache-Control", "no-store")

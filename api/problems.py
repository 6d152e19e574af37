"""Make every error an RFC 9457 `application/problem+json` answer; only this module does so.

Under `/v1` an error has OpenAI's form instead (`openai/errors.py`).

`_STATUS` is the only table from a category of error to the category's HTTP status. A problem never
contains a trace, a secret, or the caller's input: only the place of a wrong field and the rule that
it breaks.
"""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.openai import errors as openai_errors
from service import errors
from service.errors import FieldProblem, ServiceError
from service.field_problems import field_problems
from service.statuses import LoadingWorker

MEDIA_TYPE: Final = "application/problem+json"

_STATUS: Final[dict[type[ServiceError], HTTPStatus]] = {
    errors.Unreadable: HTTPStatus.BAD_REQUEST,
    errors.Unauthorized: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UnsupportedMedia: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.TooManyRequests: HTTPStatus.TOO_MANY_REQUESTS,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StorageFull: HTTPStatus.INSUFFICIENT_STORAGE,
}

# The framework's own refusals, which happen before any use case runs: number, slug, sentence.
_FRAMEWORK: Final[dict[int, tuple[str, str]]] = {
    400: ("unreadable", "The request's body cannot be read; check its encoding and its form."),
    404: ("no-such-route", "There is nothing at this address; /docs lists what there is."),
    405: ("method-not-allowed", "This address does not answer to this method; see /docs."),
    408: ("body-too-slow", "The request's body stopped arriving, or took too long. Send it again."),
    413: ("body-too-large", "The request's body is too large."),
    415: ("unsupported-media", "This kind of body is not accepted here; see /docs."),
}
_CRASH: Final = (
    "internal",
    "Something unexpected went wrong here. The server's log has the details under request_id.",
)


def install(app: FastAPI) -> None:
    """Make every handled error of `app` a problem; unhandled errors reach the middleware."""
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)


def from_service_error(request: Request, error: ServiceError) -> Response:
    """Return the problem for an error of a use case."""
    status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    headers = {}
    if isinstance(error, (errors.TooManyRequests, errors.Unavailable)):
        headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, errors.Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    return answer(
        request,
        status,
        slug=error.slug,
        detail=error.detail,
        fields=getattr(error, "errors", ()),
        workers=error.workers if isinstance(error, errors.NotReady) else (),
        headers=headers,
    )


def from_http_exception(request: Request, error: HTTPException) -> Response:
    """Return the problem for a request that the framework refused."""
    status = error.status_code
    slug, sentence = _FRAMEWORK.get(status, ("refused", "The request was refused."))
    headers = dict(error.headers or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers |= _allowed_methods(request)
    own_words = error.detail not in {phrase.phrase for phrase in HTTPStatus}
    return answer(
        request,
        status,
        slug=slug,
        detail=error.detail if own_words and status == 413 else sentence,
        headers=headers,
    )


def _allowed_methods(request: Request) -> dict[str, str]:
    """Return all methods of the address; the router names only the methods of the first match."""
    template = getattr(request.scope.get("route"), "path_format", "")
    methods = request.app.openapi()["paths"].get(template, {})
    return {"Allow": ", ".join(method.upper() for method in methods)} if methods else {}


def from_validation_error(request: Request, error: RequestValidationError) -> Response:
    """Return the problem for fields that break the schema's rules; 400 if the body is not JSON."""
    found = error.errors()
    if any(item["type"] == "json_invalid" for item in found):
        slug, detail = "unreadable", "The request's body is not valid JSON."
        return answer(request, 400, slug=slug, detail=detail)
    not_an_object = any(item["loc"] == ("body",) for item in found)
    if not_an_object and "json" not in request.headers.get("content-type", ""):
        detail = "Send the body as JSON, with Content-Type: application/json."
        return answer(request, 415, slug="unsupported-media", detail=detail)
    # The first part of a location is body, query, header or path.
    fields = field_problems({**item, "loc": item["loc"][1:]} for item in found)
    detail = " ".join(f"{each.pointer.lstrip('/') or 'body'}: {each.detail}" for each in fields)
    return answer(request, 422, slug="invalid", detail=detail, fields=fields)


def unexpected(request: Request, error: Exception) -> Response:
    """Return the problem for a crash. Only the log contains details of `error`."""
    slug, detail = _CRASH
    return answer(request, 500, slug=slug, detail=detail)


def body_too_large(max_body_bytes: int) -> str:
    """Return the sentence for a body above the limit."""
    return f"The request's body is over the limit of {max_body_bytes} bytes."


def answer(
    request: Request,
    status: int,
    *,
    slug: str,
    detail: str,
    fields: Sequence[FieldProblem] = (),
    workers: Sequence[LoadingWorker] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return an error: a problem, or under /v1 the same in OpenAI's form."""
    state = request.scope.setdefault("state", {})
    state["problem"] = slug  # for the request's log line
    if openai_errors.speaks(request.scope["path"]):
        return JSONResponse(
            openai_errors.body(status, slug=slug, detail=detail, fields=fields),
            status_code=status,
            headers={**openai_errors.headers(status), **(headers or {})},
        )
    request_id = state.get("request_id", "")
    body: dict[str, Any] = {
        **errors.problem(slug, detail),
        "status": int(status),
        "instance": f"urn:request:{request_id}",
        "request_id": request_id,
    }
    if fields:
        body["errors"] = [{"pointer": each.pointer, "detail": each.detail} for each in fields]
    if workers:
        body["workers"] = [worker.to_json() for worker in workers]
    return Response(
        json.dumps(body),
        status_code=int(status),
        headers=dict(headers or {}),
        media_type=MEDIA_TYPE,
    )


# Starlette's type for handlers takes any Exception; these three functions narrow it.
async def _on_service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return from_service_error(request, error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return from_http_exception(request, error)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return from_validation_error(request, error)

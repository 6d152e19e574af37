"""OpenAI's form of errors, which every refusal under `/v1` has instead of a problem."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

from pydantic import Field

from service.errors import FieldProblem
from service.views import View

PREFIX: Final = "/v1/"

# OpenAI's words for two kinds that its clients compare; other codes are the problem's slug.
_CODES: Final = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
_TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
# Their fields by ours, for errors that the request for images raises.
_PARAMS: Final = {
    "num_images": "n", "width": "size", "height": "size", "mask_image": "mask",
}  # fmt: skip
# The client repeats a 409 and every 5xx by itself. Here that would only fail again, or make another
# job while the first one goes on.
_NEVER_REPEAT: Final = frozenset({409, 500, 504})


class OpenAIErrorDetail(View):
    """What is wrong. `code` is the problem's kind in docs/errors.md, with `_` in place of `-`."""

    message: str
    type: Annotated[str, Field(examples=["invalid_request_error"])]
    param: Annotated[str | None, Field(description="The first wrong field.")]
    code: Annotated[str, Field(examples=["unknown_placeholder"])]


class OpenAIError(View):
    """An error in OpenAI's form."""

    error: OpenAIErrorDetail


def speaks(path: str) -> bool:
    """Return whether errors at this path have OpenAI's form."""
    return path.startswith(PREFIX)


def body(
    status: int, *, slug: str, detail: str, fields: Sequence[FieldProblem] = ()
) -> dict[str, Any]:
    """Return the error as JSON-ready data."""
    params = [_param(each.pointer) for each in fields]
    if fields:  # width and height may both be wrong, which is one sentence about the size
        sentences = (f"{param}: {each.detail}" for param, each in zip(params, fields, strict=True))
        detail = " ".join(dict.fromkeys(sentences))
    return OpenAIError(
        error=OpenAIErrorDetail(
            message=detail,
            type=_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error"),
            param=params[0] if params else None,
            code=_CODES.get(status, slug.replace("-", "_")),
        )
    ).to_json()


def headers(status: int) -> dict[str, str]:
    """Return the header that stops the client's own repeats where they would do harm."""
    return {"X-Should-Retry": "false"} if status in _NEVER_REPEAT else {}


def _param(pointer: str) -> str:
    name = pointer.lstrip("/").replace("/", ".")
    return _PARAMS.get(name, name) or "body"

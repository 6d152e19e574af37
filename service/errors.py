"""What can go wrong in a use case, as one tree.

ServiceError
├── Unreadable          the request cannot be read at all
├── Unauthorized        no key, or a key that is not valid
├── Forbidden           a key that may not do this
├── NotFound            no such object, or another owner's
├── Conflict            the request is valid, but the present state forbids it
├── TooLarge            more bytes than allowed
├── UnsupportedMedia    a kind of file that is not accepted
├── Invalid             fields that break a rule, each with its pointer
├── TooManyRequests     the caller's limit is used up
├── StorageFull         the caller's storage is used up
└── Unavailable         database, blobs, queue or base model cannot serve now
    └── NotReady        a check of /readyz failed

The class is the category and `slug` the precise kind. Only the API knows HTTP numbers. Every
`detail` is a sentence for the person who made the request and says what to do instead.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from service.statuses import LoadingWorker
from service.views import View, is_none

_Optional = Field(exclude_if=is_none)


@dataclass(frozen=True)
class FieldProblem:
    """One wrong field: the field's place, and the rule that the field breaks."""

    pointer: Annotated[str, Field(description="A JSON pointer, e.g. `/concepts/0/strength`.")]
    detail: str


class Problem(View):
    """A problem by RFC 9457. `type` links to the remedy; docs/errors.md lists all types."""

    type: str
    title: str
    detail: str
    status: Annotated[int | None, _Optional] = None
    instance: Annotated[str | None, _Optional] = None
    request_id: Annotated[str | None, _Optional] = None
    errors: Annotated[tuple[FieldProblem, ...] | None, _Optional] = None
    workers: Annotated[
        tuple[LoadingWorker, ...] | None,
        Field(exclude_if=is_none, description="Of `/readyz`: workers that take no jobs yet."),
    ] = None


class ServiceError(Exception):
    """An error that ended a use case before its work was done."""

    def __init__(self, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.slug = slug
        self.detail = detail


class Unreadable(ServiceError):
    """The request cannot be read."""


class Unauthorized(ServiceError):
    """The caller sent no key, or no valid one."""


class Forbidden(ServiceError):
    """The caller is known but does not have permission for the request."""


class NotFound(ServiceError):
    """The object does not exist for this caller."""


class Conflict(ServiceError):
    """The present state of an object forbids the request; `errors` are fields that lift this."""

    def __init__(self, slug: str, detail: str, *, errors: Sequence[FieldProblem] = ()) -> None:
        super().__init__(slug, detail)
        self.errors = tuple(errors)


class TooLarge(ServiceError):
    """More bytes than the settings allow; `pointer` names the part that is too large, if any."""

    def __init__(self, slug: str, detail: str, *, pointer: str | None = None) -> None:
        super().__init__(slug, detail)
        self.errors: tuple[FieldProblem, ...] = (FieldProblem(pointer, detail),) if pointer else ()


class UnsupportedMedia(ServiceError):
    """A kind of file that is not accepted; `pointer` names the part if it is known."""

    def __init__(self, slug: str, detail: str, *, pointer: str | None = None) -> None:
        super().__init__(slug, detail)
        self.errors: tuple[FieldProblem, ...] = (FieldProblem(pointer, detail),) if pointer else ()


class Invalid(ServiceError):
    """One or more fields break a rule."""

    def __init__(self, errors: Sequence[FieldProblem], *, slug: str = "invalid") -> None:
        super().__init__(slug, " ".join(error.detail for error in errors))
        self.errors = tuple(errors)


class TooManyRequests(ServiceError):
    """The caller has reached a limit for now."""

    def __init__(self, slug: str, detail: str, *, retry_after_seconds: int) -> None:
        super().__init__(slug, detail)
        self.retry_after_seconds = retry_after_seconds


class StorageFull(ServiceError):
    """The caller has stored as many bytes as the settings allow."""


class Unavailable(ServiceError):
    """Something that the request needs cannot serve now; nothing was accepted."""

    def __init__(self, slug: str, detail: str, *, retry_after_seconds: int = 5) -> None:
        super().__init__(slug, detail)
        self.retry_after_seconds = retry_after_seconds


class NotReady(Unavailable):
    """A check of /readyz failed; `workers` are those that load their models, or could not."""

    def __init__(self, slug: str, detail: str, *, workers: Sequence[LoadingWorker]) -> None:
        super().__init__(slug, detail)
        self.workers = tuple(workers)


def invalid(pointer: str, detail: str, *, slug: str = "invalid") -> Invalid:
    """Return the error for one wrong field."""
    return Invalid([FieldProblem(pointer, detail)], slug=slug)


def problem(slug: str, detail: str) -> dict[str, str]:
    """Return the problem object that a failed job's row keeps (RFC 9457 without a status)."""
    return {"type": f"/problems/{slug}", "title": title(slug), "detail": detail}


def title(slug: str) -> str:
    """Return the short human title of a kind of problem: `worker-lost` is `Worker lost`."""
    return slug.replace("-", " ").capitalize()

"""Lists, newest first. A cursor marks the position, so that new rows do not shift the pages."""

import base64
import binascii
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, or_
from sqlalchemy.orm import InstrumentedAttribute, Session

from service.errors import invalid
from service.views import View

R = TypeVar("R")
V = TypeVar("V")
DEFAULT_LIMIT = 20
MAX_LIMIT = 100
MAX_CURSOR_LENGTH = 200


class Page(View, Generic[V]):
    """One page of a list, newest first; `next_cursor` is null on the last page."""

    items: tuple[V, ...]
    next_cursor: str | None


def read_page(
    session: Session,
    statement: Select[R],
    *,
    created_at: InstrumentedAttribute[datetime],
    identity: InstrumentedAttribute[str],
    limit: int,
    cursor: str | None,
    to_views: Callable[[list[R]], list[V]],
) -> Page[V]:
    """Return one page of the rows of `statement`, ordered by time and id, newest first."""
    if not 1 <= limit <= MAX_LIMIT:
        raise invalid("/limit", f"limit must lie between 1 and {MAX_LIMIT}.")
    if cursor is not None:
        time, last = _decode(cursor)
        # The first condition lets the database begin in the middle of an index.
        statement = statement.where(created_at <= time, or_(created_at < time, identity < last))
    statement = statement.order_by(created_at.desc(), identity.desc()).limit(limit + 1)
    rows = list(session.scalars(statement))
    more, rows = len(rows) > limit, rows[:limit]
    next_cursor = None
    if more:
        last_row: Any = rows[-1]
        next_cursor = _encode(last_row.created_at, last_row.id)
    return Page(items=tuple(to_views(rows)), next_cursor=next_cursor)


def _encode(time: datetime, identity: str) -> str:
    text = f"{time.isoformat()}|{identity}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(cursor: str) -> tuple[datetime, str]:
    try:
        if len(cursor) > MAX_CURSOR_LENGTH:
            raise ValueError("too long")
        padded = cursor + "=" * (-len(cursor) % 4)
        decoded = base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True)
        time, bar, identity = decoded.decode("ascii").partition("|")
        moment = datetime.fromisoformat(time)
        if moment.tzinfo is None or not bar or "\0" in identity:
            raise ValueError("not one of ours")
        return moment.astimezone(UTC), identity
    except (ValueError, OverflowError, binascii.Error):
        raise invalid(
            "/cursor", "No list has returned this cursor. Leave it out to start from the newest."
        ) from None

"""Idempotency keys: store the first answer to a request for a day and repeat it.

The transaction that does the work also stores the answer. So the work and the stored answer exist
together or not at all. Two requests at the same moment do the work only once.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from service.database.tables import IdempotencyKeyRow
from service.errors import ServiceError, Unavailable, invalid
from service.wiring import Service

KEPT_FOR = timedelta(hours=24)
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to a request that may be repeated under an idempotency key."""

    body: dict[str, Any]  # JSON-ready, exactly as first sent
    location: str
    replayed: bool


@dataclass(frozen=True)
class Idempotency:
    """The caller's key for one request; the service computes the request's digest."""

    key: str

    def __post_init__(self) -> None:
        """Refuse keys that a header could not carry unchanged."""
        if not _KEY.fullmatch(self.key):
            raise invalid(
                "/Idempotency-Key",
                "Idempotency-Key must be 1 to 255 printable ASCII characters without spaces, "
                "for example a UUID.",
            )


def digest(request: Any) -> str:
    """Return the SHA-256 of a JSON-ready description of a request."""
    text = json.dumps(request, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def answer_once(
    service: Service,
    owner_id: str,
    *,
    idempotency: Idempotency | None,
    request_sha256: str,
    act: Callable[[Connection, datetime], tuple[dict[str, Any], str]],
) -> Answer:
    """Run `act` in a transaction and store its body and location, or repeat the first answer.

    `act` may run twice (see `Database.run`), so `act` must only write rows.
    """

    def answer(connection: Connection, now: datetime) -> Answer:
        if idempotency is None:
            body, location = act(connection, now)
            return Answer(body=body, location=location, replayed=False)
        key = idempotency.key
        stored = _stored(connection, owner_id, key=key, request_sha256=request_sha256, now=now)
        if stored is not None:
            return stored
        body, location = act(connection, now)
        connection.execute(delete(IdempotencyKeyRow).where(IdempotencyKeyRow.expires_at <= now))
        connection.execute(
            insert(IdempotencyKeyRow).values(
                owner_id=owner_id,
                key=key,
                request_sha256=request_sha256,
                answer=body,
                location=location,
                expires_at=now + KEPT_FOR,
            )
        )
        return Answer(body=body, location=location, replayed=False)

    try:
        return service.database.run(answer)
    except Unavailable:
        raise
    except ServiceError:
        # Another copy of this request may have been answered after this copy checked for an answer.
        # Then this copy fails only because of the other's rows, such as a name that is now taken.
        if idempotency is None:
            raise
        with service.database.read() as session:
            first = _stored(
                session.connection(),
                owner_id,
                key=idempotency.key,
                request_sha256=request_sha256,
                now=service.database.now(session),
            )
        if first is None:
            raise
        return first


def _stored(
    connection: Connection, owner_id: str, *, key: str, request_sha256: str, now: datetime
) -> Answer | None:
    of_key = (IdempotencyKeyRow.owner_id == owner_id, IdempotencyKeyRow.key == key)
    row = connection.execute(select(*IdempotencyKeyRow.__table__.c).where(*of_key)).one_or_none()
    if row is None or row.expires_at <= now:
        return None
    if row.request_sha256 != request_sha256:
        raise invalid(
            "/Idempotency-Key",
            "This Idempotency-Key was used for another request. Use a new key for a new request.",
            slug="idempotency-key-reused",
        )
    return Answer(body=row.answer, location=row.location, replayed=True)

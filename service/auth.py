"""API keys: identify the caller and what the caller may do.

The database keeps only a key's SHA-256.

A key is shown once. A key contains 256 random bits, so guessing is hopeless and a plain hash is
enough. Objects belong to an `owner_id`. Several keys may give access to the objects of one owner,
each key within its scopes.
"""

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.orm import Session

from service.database.tables import ApiKeyRow, ConceptRow, JobRow
from service.errors import NotFound, Unauthorized, invalid
from service.ids import new_id
from service.settings.environment import Settings
from service.validation import check_text
from service.wiring import Service

LOCAL_OWNER = "local"
_PREFIX_LENGTH = 11  # sk_ and 8 characters: enough to find the row, far too few to guess the rest
_MAX_LABEL_LENGTH = 100
# Built once at import, because every request runs this query.
_OF_PREFIX = select(ApiKeyRow.sha256, ApiKeyRow.owner_id, ApiKeyRow.scopes).where(
    ApiKeyRow.prefix == bindparam("prefix"), ApiKeyRow.revoked_at.is_(None)
)


class Scope(StrEnum):
    """The actions that a key allows on its owner's objects. No scope includes another scope."""

    READ = "read"  # look at concepts, jobs and images, and fetch their files
    GENERATE = "generate"  # ask for images, and cancel jobs
    TRAIN = "train"  # make, import and delete concepts, and cancel jobs
    METRICS = "metrics"  # read /metrics, which counts all owners' requests and jobs


ALL_SCOPES = frozenset(Scope)
DEFAULT_SCOPES = frozenset({Scope.READ, Scope.GENERATE, Scope.TRAIN})


@dataclass(frozen=True, kw_only=True)
class ApiKeyView:
    """An API key without its secret."""

    id: str
    owner_id: str
    label: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True)
class Caller:
    """The owner and the scopes that a request acts with."""

    owner_id: str
    scopes: frozenset[Scope] = ALL_SCOPES


def required(settings: Settings, *, host: str) -> bool:
    """Return whether callers need a key when the server listens on `host`."""
    if settings.auth != "auto":
        return settings.auth == "required"
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return True


def authenticate(service: Service, header: str | None, *, key_required: bool) -> Caller:
    """Return the caller that the Authorization `header` names.

    Without a header the caller is the local owner, unless a key is required. A wrong header is
    always refused, so that a mistyped key never gives access to the local owner's objects.
    """
    if header is None:
        if key_required:
            raise Unauthorized(
                "key-missing", "Send your API key in the header Authorization: Bearer sk_..."
            )
        return Caller(LOCAL_OWNER)
    scheme, _, key = header.partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthorized(
            "key-malformed", "The Authorization header must be: Bearer, a space, your API key."
        )
    digest = _digest(key.strip())
    with service.database.read() as session:
        rows = session.connection().execute(_OF_PREFIX, {"prefix": _prefix(key.strip())})
        for sha256, owner_id, scopes in rows:
            if hmac.compare_digest(sha256, digest):
                return Caller(owner_id, _scopes(scopes))
    raise Unauthorized(
        "key-unknown", "This API key is not known here, or was revoked. Check it, or ask for one."
    )


def create_key(
    service: Service,
    *,
    label: str,
    owner_id: str | None = None,
    scopes: Collection[Scope] = DEFAULT_SCOPES,
) -> tuple[str, ApiKeyView]:
    """Make a key for a new owner, or a further key for `owner_id`. The key is never shown again."""
    key = f"sk_{secrets.token_urlsafe(32)}"
    owner_id = owner_id or new_id("owner")
    return key, _store(service, key, label=label, owner_id=owner_id, scopes=scopes)


def owner_exists(service: Service, owner_id: str) -> bool:
    """Return whether a key, a concept or a job belongs to this owner; `local` always exists."""
    if owner_id == LOCAL_OWNER:
        return True
    with service.database.read() as session:
        return any(
            session.scalar(select(row.id).where(row.owner_id == owner_id).limit(1)) is not None
            for row in (ApiKeyRow, ConceptRow, JobRow)
        )


def ensure_bootstrap_key(service: Service) -> None:
    """Store the key from the settings, if any; the key gives access to the local owner's objects.

    If several processes start at once, the first process stores the key and the other processes
    find the stored key.
    """
    if service.settings.bootstrap_key is None:
        return
    key = service.settings.bootstrap_key.get_secret_value()

    def act(connection: Connection, now: datetime) -> None:
        known = select(ApiKeyRow.id).where(ApiKeyRow.sha256 == _digest(key))
        if connection.scalar(known) is None:
            row = _row(key, label="bootstrap", owner_id=LOCAL_OWNER, scopes=ALL_SCOPES, now=now)
            with Session(connection) as session:
                session.add(row)
                session.flush()

    service.database.run(act)


def list_keys(service: Service) -> list[ApiKeyView]:
    """Return all keys, the newest first, without their secrets."""
    with service.database.read() as session:
        rows = session.scalars(
            select(ApiKeyRow).order_by(ApiKeyRow.created_at.desc(), ApiKeyRow.id)
        )
        return [_view(row) for row in rows]


def revoke_key(service: Service, key_id: str) -> None:
    """Revoke a key at once; `key_id` is its id or its visible prefix."""
    with service.database.write() as session:
        rows = session.scalars(
            select(ApiKeyRow).where((ApiKeyRow.id == key_id) | (ApiKeyRow.prefix == key_id))
        ).all()
        if not rows:
            raise NotFound("key-not-found", "There is no key with this id or prefix.")
        for row in rows:
            row.revoked_at = row.revoked_at or service.database.now(session)


def _store(
    service: Service, key: str, *, label: str, owner_id: str, scopes: Collection[Scope]
) -> ApiKeyView:
    text = check_text(label, pointer="/label", max_length=_MAX_LABEL_LENGTH)
    if not text.strip():
        raise invalid("/label", "Give the key a label that says who or what uses it.")
    with service.database.write() as session:
        now = service.database.now(session)
        row = _row(key, label=text, owner_id=owner_id, scopes=scopes, now=now)
        session.add(row)
        return _view(row)


def _row(
    key: str, *, label: str, owner_id: str, scopes: Collection[Scope], now: datetime
) -> ApiKeyRow:
    return ApiKeyRow(
        id=new_id("key"),
        owner_id=owner_id,
        label=label,
        prefix=_prefix(key),
        sha256=_digest(key),
        scopes=" ".join(scope for scope in Scope if scope in scopes),
        created_at=now,
        revoked_at=None,
    )


def _view(row: ApiKeyRow) -> ApiKeyView:
    return ApiKeyView(
        id=row.id,
        owner_id=row.owner_id,
        label=row.label,
        prefix=row.prefix,
        scopes=tuple(scope.value for scope in Scope if scope in _scopes(row.scopes)),
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )


def _scopes(words: str | None) -> frozenset[Scope]:
    if words is None:  # a key of the first release, which has every scope
        return ALL_SCOPES
    return frozenset(scope for scope in Scope if scope in words.split())


def _prefix(key: str) -> str:
    # Text that cannot be a key (other characters, NUL) must not reach the database.
    return key[:_PREFIX_LENGTH] if key.isascii() and key.isprintable() else ""


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()

"""Check that the database and the blob store belong together: both hold the same deployment's id.

With a wrong URL, a lost SQLite file or a swapped bucket, every blob would look like an orphan. So
the ids are compared before any blob is removed. If the database and the store are both new, both
get an id automatically. A database and store of the previous release also get an id automatically,
if the store contains blobs that the database names. An operator decides every other case
(`perfusion blobs adopt`).
"""

from collections.abc import Iterator
from datetime import datetime
from itertools import islice

import structlog
from sqlalchemy import Connection, insert, select, text

from service.blobs import keys
from service.blobs.store import BlobExists, BlobNotFound
from service.database.tables import ConceptRow, DeploymentRow, ImageRow, PictureRow
from service.errors import Unavailable
from service.ids import new_id
from service.settings.environment import SettingsError
from service.wiring import Service

_LOOKED_FOR = 10  # blobs of each kind
_LOOKED_AT = 10_000
_ADVICE = (
    "Correct PERFUSION_DATABASE_URL or PERFUSION_BLOBS_URL. If these two shall belong together "
    "from now on, run `perfusion blobs adopt`."
)
_OF_DATABASE = select(DeploymentRow.id).order_by(DeploymentRow.created_at).limit(1)
_log = structlog.get_logger()


class Mismatch(SettingsError):
    """The database and the blob store do not belong together; the message says what to do."""


def check(service: Service) -> None:
    """Raise Mismatch unless database and store belong together; give an id to a new pair."""
    with service.database.read() as session:
        ours = session.scalar(_OF_DATABASE)
    theirs = _of_store(service)
    if ours is None or theirs is None:
        # If the store contains no blob of a new database, that database gets its own id and is
        # refused, because the store may belong to another deployment that has stored nothing yet.
        wanted = theirs if _are_kin(service) else None
        ours = service.database.run(lambda connection, now: _ensure(connection, now, wanted=wanted))
        try:
            service.blobs.put_new(keys.DEPLOYMENT_KEY, ours.encode())
        except BlobExists:
            theirs = _of_store(service)
        else:
            theirs = ours
    if ours != theirs:
        raise Mismatch(
            f"The database belongs to {ours} and the blob store to {theirs}: two deployments. "
            f"{_ADVICE}"
        )


def check_at_start(service: Service) -> None:
    """Run `check`; if a server is unavailable, leave the check to the next collection."""
    try:
        check(service)
    except Unavailable as error:
        _log.warning("deployment.not_checked", problem=error.slug)


def adopt(service: Service) -> str:
    """Make this database and this store belong together under a common id; return the id."""
    ours = service.database.run(lambda connection, now: _ensure(connection, now, wanted=None))
    service.blobs.put(keys.DEPLOYMENT_KEY, ours.encode())
    return ours


def _ensure(connection: Connection, now: datetime, *, wanted: str | None) -> str:
    """Return the database's id; the first caller makes the id while other callers wait."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE deployment IN SHARE ROW EXCLUSIVE MODE"))
    ours = connection.scalar(_OF_DATABASE)
    if ours is None:
        ours = wanted or new_id("deployment")
        connection.execute(insert(DeploymentRow).values(id=ours, created_at=now))
    return ours


def _of_store(service: Service) -> str | None:
    try:
        return service.blobs.get(keys.DEPLOYMENT_KEY).decode(errors="replace").strip()
    except BlobNotFound:
        return None


def _are_kin(service: Service) -> bool:
    """Return True if the store holds a blob that the database names, False if both sides are new.

    Raise Mismatch if only the store or only the database is new. Also raise Mismatch if neither is
    new and the store holds no blob that the database names.
    """
    names_any = False
    for key in _some_named(service):
        names_any = True
        try:
            service.blobs.get(key)
            return True
        except BlobNotFound:
            pass
    if names_any:
        raise Mismatch(
            "The database names pictures and images, but the blob store holds none of those that "
            f"were looked for: the blob store is empty or the wrong one. {_ADVICE}"
        )
    some = islice(service.blobs.list(), _LOOKED_AT)
    if any(keys.owner_of(blob.key) is not None for blob in some):
        raise Mismatch(
            "The blob store holds pictures and images, but the database names none of them: the "
            f"database is new or the wrong one. {_ADVICE}"
        )
    return False


def _some_named(service: Service) -> Iterator[str]:
    """Go through a few keys of each kind that rows name: a random sample, as ids are random."""
    for column, order in (
        (ImageRow.blob_key, ImageRow.id),
        (ConceptRow.blob_key, ConceptRow.id),
        (PictureRow.blob_key, PictureRow.concept_id),
    ):
        with service.database.read() as session:
            named = select(column).where(column.is_not(None)).order_by(order).limit(_LOOKED_FOR)
            found = session.scalars(named).all()
        yield from (key for key in found if key is not None)

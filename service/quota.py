"""Count the bytes that an owner has stored, and check the limit.

Pictures with their masks (of concepts, and of inspections and edits that have not ended), concept
files, and images with their thumbnails and attention maps count. LoRAs do not count: they are
small, a concept has at most one for each of its two files, and they are deleted with the concept.
Rows from a release that stored no sizes count 0. The sum is computed only if a limit is set, and is
cached for some seconds, so an owner may exceed the limit by the uploads accepted in that time.
"""

from sqlalchemy import String, bindparam, func, select

from service.database.tables import ConceptRow, ImageRow, JobRow, PictureRow
from service.errors import StorageFull
from service.statuses import TERMINAL
from service.wiring import Service

_KNOWN_SECONDS = 10.0
_FULL_SECONDS = 1.0  # an owner who has just deleted something should not wait for long
_MOST_KNOWN = 10_000
_OWNER = bindparam("owner", type_=String)
# Images are found through their jobs, because jobs have an index on the owner.
_STORED = (
    select(func.sum(ConceptRow.size_bytes)).where(ConceptRow.owner_id == _OWNER),
    # The previous files.
    select(func.sum(ConceptRow.previous["size_bytes"].as_integer())).where(
        ConceptRow.owner_id == _OWNER
    ),
    select(func.sum(PictureRow.size_bytes)).join(ConceptRow).where(ConceptRow.owner_id == _OWNER),
    select(func.sum(ImageRow.size_bytes)).join(JobRow).where(JobRow.owner_id == _OWNER),
    # Uploads that wait for an inspection or for an edit.
    *(
        select(func.sum(size_bytes.as_integer())).where(
            JobRow.owner_id == _OWNER, JobRow.status.not_in(TERMINAL)
        )
        for size_bytes in (JobRow.payload["size_bytes"], JobRow.payload["edit", "size_bytes"])
    ),
)


def stored_bytes(service: Service, owner_id: str) -> int:
    """Return how many bytes this owner has in the blob store."""
    with service.database.read() as session:
        sums = [session.scalar(statement, {"owner": owner_id}) for statement in _STORED]
    return sum(int(size or 0) for size in sums)


def full(service: Service, owner_id: str) -> StorageFull | None:
    """Return the error if this owner's storage is used up, else None."""
    limit = service.settings.max_bytes_per_owner
    if limit is None:
        return None
    sizes = service.sizes
    until, size_bytes = sizes.known.get(owner_id, (0.0, 0))
    if sizes.clock() >= until:
        size_bytes = stored_bytes(service, owner_id)
        if len(sizes.known) >= _MOST_KNOWN:
            sizes.known.clear()
        seconds = _KNOWN_SECONDS if size_bytes < limit else _FULL_SECONDS
        sizes.known[owner_id] = (sizes.clock() + seconds, size_bytes)
    if size_bytes < limit:
        return None
    return StorageFull(
        "storage-full",
        f"Your pictures, concepts and images take {size_bytes} bytes; {limit} are allowed. "
        "Delete some that you no longer need, then send this again.",
    )


def check_room(service: Service, owner_id: str) -> None:
    """Raise StorageFull if this owner's storage is used up."""
    error = full(service, owner_id)
    if error is not None:
        raise error

"""Remove blobs that no row names, which crashes, outages and cancelled trainings leave behind.

A blob is written before its row, so a pass skips blobs younger than a grace period. A deletion
removes its blobs together with the row, so a pass usually finds few orphans. If a pass finds many
orphans, rows are probably missing (a wrong database, an old backup). So above a limit the pass
removes nothing and reports the orphans. Any number of processes may run a pass.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

import structlog

from service import deployment
from service.blobs.store import BlobInfo
from service.garbage.references import unnamed
from service.wiring import Service

GRACE = timedelta(hours=1)
_ALWAYS_ALLOWED = 20
_SHARE = 10  # percent
# The number of keys in one query, and the number of keys that one pass keeps in memory.
_KEYS_AT_ONCE = 500
_KEYS_OF_A_PASS = 10_000
_NOTICE = "collection"
_log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The result of a pass over the store; `orphans` may contain fewer keys than `orphan_count`."""

    stored: int
    orphan_count: int
    orphans: list[str]
    oldest: datetime  # younger blobs were skipped
    complete: bool = True

    @property
    def held_back(self) -> bool:
        """Return whether there are too many orphans to be mere leftovers."""
        return self.orphan_count > most_removed(self.stored)


def most_removed(stored: int) -> int:
    """Return how many blobs a pass over a store of `stored` blobs may remove."""
    return max(_ALWAYS_ALLOWED, stored * _SHARE // 100)


def collect(
    service: Service, *, grace: timedelta = GRACE, stopping: Callable[[], bool] = lambda: False
) -> int:
    """Remove orphans older than `grace` unless there are too many; return the number removed.

    The collection ends early when `stopping` returns True.
    """
    deployment.check(service)
    found = survey(service, grace=grace, most=_KEYS_OF_A_PASS, stopping=stopping)
    if not found.complete:
        return 0
    if found.held_back:
        service.notices[_NOTICE] = held_back_sentence(found)
        _log.error("blobs.held_back", orphans=found.orphan_count, stored=found.stored)
        return 0
    service.notices.pop(_NOTICE, None)
    return remove(service, found, stopping=stopping)


def survey(
    service: Service,
    *,
    grace: timedelta = GRACE,
    most: int | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Survey:
    """Find blobs older than `grace` that no row names; keep at most `most` keys (None: all)."""
    with service.database.read() as session:
        oldest = service.database.now(session) - grace
    stored = count = 0
    orphans: list[str] = []
    for batch in _batches(service.blobs.list()):
        if stopping():
            return Survey(
                stored=stored, orphan_count=count, orphans=[], oldest=oldest, complete=False
            )
        stored += len(batch)
        old = [blob.key for blob in batch if blob.modified_at < oldest]
        with service.database.read() as session:
            found = sorted(unnamed(session, old))
        count += len(found)
        orphans += found if most is None else found[: most - len(orphans)]
    return Survey(stored=stored, orphan_count=count, orphans=orphans, oldest=oldest)


def remove(service: Service, found: Survey, *, stopping: Callable[[], bool] = lambda: False) -> int:
    """Remove a survey's orphans and unfinished writes; return the number of both together."""
    removed = 0
    for key in found.orphans:
        if stopping():
            return removed
        service.blobs.delete(key)
        removed += 1
    return removed + service.blobs.clear_unfinished(older_than=found.oldest)


def held_back_sentence(found: Survey) -> str:
    """Return the sentence that tells an operator about too many orphans."""
    return (
        f"No row names {found.orphan_count} of the {found.stored} files in the blob store, and "
        f"one collection removes at most {most_removed(found.stored)}: it removed none. Check that "
        "the database is the right one and not an old backup. Then "
        "`perfusion blobs collect --all` lists these files and removes them."
    )


def _batches(blobs: Iterator[BlobInfo]) -> Iterator[list[BlobInfo]]:
    while batch := list(islice(blobs, _KEYS_AT_ONCE)):
        yield batch

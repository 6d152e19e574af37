"""Deletes images and finished jobs that are older than the settings keep them; by default none.

It deletes rows first, and right after them the blobs that they named. It deletes a job only when
the job has no image and no concept left, because the previous release's collector removes every
file of a job without a row. Every statement reads a bounded number of rows, in the order of their
ids, so that a large table takes many short turns instead of one long one. Any number of processes
may run this at once: each skips the rows that another is deleting.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, exists, select
from sqlalchemy.orm import InstrumentedAttribute

from service import blobs as keys
from service import deployment, image_rows, transitions
from service.tables import Concept, Image, Job
from service.views import TERMINAL
from service.wiring import Service

# Rows of one look; those that are old enough are then deleted in one transaction.
_ROWS_AT_ONCE = 500
_NOTHING_LEFT = (
    Job.concept_id.is_(None),
    ~exists().where(Image.job_id == Job.id),
    ~exists().where(Concept.job_id == Job.id),
)


def release(service: Service, *, stopping: Callable[[], bool] = lambda: False) -> tuple[int, int]:
    """Delete the images and then the jobs that are too old; return how many of each.

    It ends early once `stopping` returns True.
    """
    keep_images, keep_jobs = service.settings.keep_images_days, service.settings.keep_jobs_days
    if keep_images is None and keep_jobs is None:
        return 0, 0
    deployment.check(service)
    with service.database.read() as session:
        now = service.database.now(session)
    images = jobs = 0
    if keep_images is not None:
        images = _release_images(service, now - timedelta(days=keep_images), stopping)
    if keep_jobs is not None:
        jobs = _release_jobs(service, now - timedelta(days=keep_jobs), stopping)
    return images, jobs


def _release_images(service: Service, oldest: datetime, stopping: Callable[[], bool]) -> int:
    released = 0
    for rows in _windows(service, Image.id, Image.created_at):
        if stopping():
            break
        old = [row.id for row in rows if row.created_at < oldest]
        named = Image.blob_key, Image.attention_maps
        gone = _delete(service, Image.id, old, returning=named)
        for key in image_rows.blob_keys_of(gone):
            transitions.remove_blobs(service, key=key)
        released += len(gone)
    return released


def _release_jobs(service: Service, oldest: datetime, stopping: Callable[[], bool]) -> int:
    released = 0
    for rows in _windows(service, Job.id, Job.status, Job.finished_at):
        if stopping():
            break
        old = [row.id for row in rows if row.status in TERMINAL and row.finished_at < oldest]
        gone = _delete(service, Job.id, old, returning=(Job.id,), where=_NOTHING_LEFT)
        for job in gone:
            transitions.remove_blobs(service, prefix=keys.job_prefix(job.id))
        released += len(gone)
    return released


def _windows(
    service: Service, identity: InstrumentedAttribute[str], *columns: InstrumentedAttribute[Any]
) -> Iterator[Sequence[Row[Any]]]:
    """Go through a whole table, some rows at a time."""
    last = ""
    while True:
        with service.database.read() as session:
            some = select(identity, *columns).where(identity > last).order_by(identity)
            rows = session.execute(some.limit(_ROWS_AT_ONCE)).all()
        if not rows:
            return
        yield rows
        last = rows[-1][0]


def _delete(
    service: Service,
    identity: InstrumentedAttribute[str],
    ids: Sequence[str],
    *,
    returning: Sequence[InstrumentedAttribute[Any]],
    where: Sequence[ColumnElement[bool]] = (),
) -> Sequence[Row[Any]]:
    if not ids:
        return ()
    free = select(identity).where(identity.in_(ids), *where).with_for_update(skip_locked=True)
    # PostgreSQL may run a plain subquery again for each row.
    once = free.cte("free")
    statement = delete(identity.class_).where(identity.in_(select(once.c.id))).returning(*returning)
    with service.database.write() as session:
        return session.execute(statement.execution_options(synchronize_session=False)).all()

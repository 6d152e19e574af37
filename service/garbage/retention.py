"""Delete images and finished jobs above the age in the settings, and old inspections.

By default only inspections are deleted, an hour after their end.

A pass deletes a few rows at a time, and right afterwards the blobs that these rows named. A pass
ends if the blob store is unavailable. A job's row is deleted only when the job has no image and no
concept left. Otherwise the garbage collection of the previous release would remove every file of
the deleted job. Every statement reads a limited number of rows, in the order of their ids, so that
a large table takes many short statements instead of one long one. Any number of processes may run
this at once, because each process skips the rows that another process is deleting.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, exists, select
from sqlalchemy.orm import InstrumentedAttribute

from service import deployment
from service.blobs import keys
from service.database.tables import ConceptRow, ImageRow, JobRow
from service.jobs import image_rows
from service.statuses import TERMINAL, JobKind
from service.wiring import Service

_ROWS_AT_ONCE = 500  # read by one statement
# Rows per transaction. If the process ends, the commit's answer is lost or the store fails, the
# blobs of these rows (an image has a thumbnail, and may have maps) become orphans; they must be few
# enough for the garbage collection to remove them.
_DELETED_AT_ONCE = 5
_KEEP_INSPECTIONS = timedelta(hours=1)
_INSPECTION = JobRow.own_kind == JobKind.INSPECT.value
_NOTHING_LEFT = (
    JobRow.concept_id.is_(None),
    ~exists().where(ImageRow.job_id == JobRow.id),
    ~exists().where(ConceptRow.job_id == JobRow.id),
    ~exists().where(ConceptRow.previous_job_id == JobRow.id),
)


def release(service: Service, *, stopping: Callable[[], bool] = lambda: False) -> tuple[int, int]:
    """Delete the images and jobs that are too old; return the number of images and of jobs.

    The pass ends early when `stopping` returns True.
    """
    keep_images, keep_jobs = service.settings.keep_images_days, service.settings.keep_jobs_days
    deployment.check(service)
    with service.database.read() as session:
        now = service.database.now(session)
    images, jobs = 0, _release_inspections(service, now - _KEEP_INSPECTIONS, stopping)
    if keep_images is not None:
        images = _release_images(service, now - timedelta(days=keep_images), stopping)
    if keep_jobs is not None:
        jobs += _release_jobs(service, now - timedelta(days=keep_jobs), stopping)
    return images, jobs


def _release_inspections(service: Service, oldest: datetime, stopping: Callable[[], bool]) -> int:
    released = 0
    ended = (_INSPECTION, JobRow.status.in_(TERMINAL), JobRow.finished_at < oldest)
    while True:
        with service.database.read() as session:
            old = session.scalars(select(JobRow.id).where(*ended).limit(_ROWS_AT_ONCE)).all()
        deleted = _delete_jobs(service, old, where=ended)
        released += deleted
        if not deleted or stopping():  # none is left, or other processes delete the others
            return released


def _release_images(service: Service, oldest: datetime, stopping: Callable[[], bool]) -> int:
    released = 0
    for rows in _windows(service, ImageRow.id, ImageRow.created_at):
        if stopping():
            break
        old = [row.id for row in rows if row.created_at < oldest]
        for gone in _delete(service, ImageRow.id, old, returning=image_rows.BLOBS):
            for key in image_rows.blob_keys_of(gone):
                service.blobs.delete(key)
            released += len(gone)
    return released


def _release_jobs(service: Service, oldest: datetime, stopping: Callable[[], bool]) -> int:
    released = 0
    for rows in _windows(service, JobRow.id, JobRow.status, JobRow.finished_at):
        if stopping():
            break
        old = [row.id for row in rows if row.status in TERMINAL and row.finished_at < oldest]
        with service.database.read() as session:
            empty = session.scalars(
                select(JobRow.id).where(JobRow.id.in_(old), *_NOTHING_LEFT)
            ).all()
        released += _delete_jobs(service, empty, where=_NOTHING_LEFT)
    return released


def _delete_jobs(
    service: Service, ids: Sequence[str], *, where: Sequence[ColumnElement[bool]]
) -> int:
    deleted = 0
    for gone in _delete(service, JobRow.id, ids, returning=(JobRow.id,), where=where):
        for job in gone:
            service.blobs.delete_prefix(keys.job_prefix(job.id))
        deleted += len(gone)
    return deleted


def _windows(
    service: Service, identity: InstrumentedAttribute[str], *columns: InstrumentedAttribute[Any]
) -> Iterator[Sequence[Row[Any]]]:
    """Go through a whole table, a bounded number of rows at a time."""
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
) -> Iterator[Sequence[Row[Any]]]:
    """Delete rows, a few in each transaction; yield what each transaction deleted."""
    for first in range(0, len(ids), _DELETED_AT_ONCE):
        few = ids[first : first + _DELETED_AT_ONCE]
        free = select(identity).where(identity.in_(few), *where).with_for_update(skip_locked=True)
        # PostgreSQL may run a plain subquery again for each row.
        once = free.cte("free")
        statement = delete(identity.class_).where(identity.in_(select(once.c.id)))
        with service.database.write() as session:
            rows = session.execute(
                statement.returning(*returning).execution_options(synchronize_session=False)
            ).all()
        yield rows

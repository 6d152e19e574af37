"""All changes of a job's status, in one place: row, audit event and concept change together.

`change` is the only code that writes `jobs.status`. `change` is a conditional UPDATE .. RETURNING,
so of two callers only the first changes the row. `change` writes the audit event of every changed
row. When a training ends without a result, `change` also sets the concept's status. All of this
happens in the caller's transaction.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Connection, bindparam, insert, or_, select, update
from sqlalchemy.orm import Session

from service.blobs import keys
from service.blobs.store import BlobNotFound
from service.database.tables import ConceptRow, JobEventRow, JobRow
from service.errors import TooManyRequests, Unavailable
from service.errors import problem as make_problem
from service.jobs.job_order import QueuePosition
from service.statuses import TERMINAL, ConceptStatus, JobKind, JobStatus, Queue
from service.wiring import Service

# The API notifies right after its commit; the reconciler does so later if no worker has claimed the
# job.
_NOTIFY_AGAIN_SECONDS = 5
_CONCEPT_STATUS = {
    JobStatus.FAILED: ConceptStatus.FAILED,
    JobStatus.CANCELLED: ConceptStatus.CANCELLED,
}
_INSERT_JOB, _INSERT_EVENT = insert(JobRow), insert(JobEventRow).inline()
# Insert job and event in one round trip, if the database can: every accepted request waits.
_JOB_PARAMETERS = {column.key: f"of_{column.key}" for column in JobRow.__table__.c}
_INSERT_BOTH = _INSERT_EVENT.add_cte(
    _INSERT_JOB.values({column: bindparam(name) for column, name in _JOB_PARAMETERS.items()}).cte(
        "accepted"
    )
)
_log = structlog.get_logger()


def enqueue(
    connection: Connection, service: Service, *, job: JobRow, position: QueuePosition
) -> int:
    """Add a queued job, unless its owner has too many waiting; return its position, from 1.

    The caller notifies the workers after the commit. Requests at the same moment do not see each
    other's jobs, so an owner may exceed the limit by a few jobs.
    """
    limit = service.settings.max_queued_jobs_per_owner
    if position.waiting >= limit:
        raise TooManyRequests(
            "too-many-queued-jobs",
            f"{limit} of your jobs are waiting already, which is the limit. "
            "Wait for some to end, or cancel some.",
            retry_after_seconds=30,
        )
    job.turn = position.turn
    _insert(connection, job, _event(job, now=job.created_at, old=None, reason="accepted"))
    return position.ahead + 1


def _insert(connection: Connection, job: JobRow, event: dict[str, Any]) -> None:
    if connection.dialect.name == "postgresql":
        values = {name: getattr(job, column) for column, name in _JOB_PARAMETERS.items()}
        connection.execute(_INSERT_BOTH, values | event)
    else:
        values = {column: getattr(job, column) for column in _JOB_PARAMETERS}
        connection.execute(_INSERT_JOB, values)
        connection.execute(_INSERT_EVENT, event)


def new_job(
    service: Service,
    owner_id: str,
    *,
    job_id: str,
    kind: JobKind,
    payload: dict[str, Any],
    total_steps: int,
    concept_id: str | None,
    now: datetime,
) -> JobRow:
    """Return the row of a job that has just been accepted."""
    return JobRow(
        id=job_id,
        owner_id=owner_id,
        queue=kind.queue,
        own_kind=None if kind.value == kind.queue.value else kind.value,
        status=JobStatus.QUEUED,
        payload=payload,
        step=0,
        total_steps=total_steps,
        attempt=0,
        attempts_spent=0,
        max_attempts=service.settings.max_attempts,
        dispatch_at=now + timedelta(seconds=_NOTIFY_AGAIN_SECONDS),
        rings=0,
        concept_id=concept_id,
        version=1,
        created_at=now,
    )


def change(
    session: Session,
    *,
    now: datetime,
    where: Sequence[ColumnElement[bool]],
    old: JobStatus,
    new: JobStatus,
    reason: str,
    values: dict[str, Any] | None = None,
) -> list[JobRow]:
    """Move the jobs that are `old` and meet `where` to `new`; return the jobs that moved."""
    assert old not in TERMINAL
    assigned: dict[str, Any] = {"status": new, "phase": None, "version": JobRow.version + 1}
    if new is not JobStatus.RUNNING:
        assigned["lease_until"] = None
    if new in TERMINAL:
        assigned["finished_at"] = now
    statement = (
        update(JobRow)
        .where(JobRow.status == old, *where)
        .values(assigned | (values or {}))
        .returning(JobRow)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    jobs = list(session.scalars(statement))
    for job in jobs:
        record(session, job, now=now, old=old, reason=reason)
    if (concept_status := _CONCEPT_STATUS.get(new)) is not None:
        concept_ids = [job.concept_id for job in jobs if job.kind is JobKind.TRAIN]
        session.execute(
            update(ConceptRow)
            .where(ConceptRow.id.in_(concept_ids), ConceptRow.status == ConceptStatus.TRAINING)
            .values(status=concept_status)
            .execution_options(synchronize_session=False)
        )
    if old is JobStatus.RUNNING:
        for owner_id in {job.owner_id for job in jobs}:
            _notify_next(session, owner_id, now=now)
    return jobs


def _notify_next(session: Session, owner_id: str, *, now: datetime) -> None:
    """Make the owner's next job of each queue due for notice, after one of them stopped running.

    The limit of running jobs covers both queues, so a training that ends may allow a generation to
    start. Without this notice, idle workers for generations would not soon learn of the allowed
    job. Rows that another transaction has locked are skipped.
    """
    next_jobs = [
        select(JobRow.id)
        .where(
            JobRow.owner_id == owner_id,
            JobRow.status == JobStatus.QUEUED,
            JobRow.queue == queue,
            or_(JobRow.not_before.is_(None), JobRow.not_before <= now),
        )
        .order_by(JobRow.turn, JobRow.created_at, JobRow.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
        for queue in Queue
    ]
    session.execute(
        update(JobRow)
        .where(or_(*(JobRow.id == next_job for next_job in next_jobs)), JobRow.dispatch_at > now)
        .values(dispatch_at=now, rings=0)
        .execution_options(synchronize_session=False)
    )


def record(
    session: Session, job: JobRow, *, now: datetime, old: JobStatus | None, reason: str
) -> None:
    """Write the audit event of a status that has just been set."""
    session.add(JobEventRow(**_event(job, now=now, old=old, reason=reason)))


def _event(job: JobRow, *, now: datetime, old: JobStatus | None, reason: str) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "at": now,
        "from_status": old.value if old else None,
        "to_status": job.status.value,
        "attempt": job.attempt,
        "worker_id": job.worker_id,
        "reason": reason,
    }


def request_cancel(
    session: Session, *, now: datetime, where: Sequence[ColumnElement[bool]]
) -> list[JobRow]:
    """Cancel the jobs that meet `where`: queued jobs at once, running jobs by setting a flag.

    Return the jobs that ended at once.
    """
    # Lock the rows for both statements, because a running job might go back to the queue in
    # between.
    session.execute(select(JobRow.id).where(*where).order_by(JobRow.id).with_for_update())
    ended = change(
        session,
        now=now,
        where=where,
        old=JobStatus.QUEUED,
        new=JobStatus.CANCELLED,
        reason="cancelled",
        values={"cancel_requested_at": now},
    )
    session.execute(
        update(JobRow)
        .where(JobRow.status == JobStatus.RUNNING, JobRow.cancel_requested_at.is_(None), *where)
        .values(cancel_requested_at=now, version=JobRow.version + 1)
        .execution_options(synchronize_session=False)
    )
    return ended


def waiting(*, notify_at: datetime) -> dict[str, Any]:
    """Return the values of a job that goes back to the queue, to be claimed from `notify_at` on."""
    return {
        "lease_token": None,
        "worker_id": None,
        "not_before": notify_at,
        "dispatch_at": notify_at,
        "rings": 0,
    }


def worker_lost() -> dict[str, str]:
    """Return the problem of a job that ended its workers too often."""
    return make_problem(
        "worker-lost",
        "The worker stopped in the middle of this job, as often as is allowed. "
        "Send the job again; if it happens again, ask for fewer or smaller images.",
    )


def infrastructure_failed() -> dict[str, str]:
    """Return the problem of a job that met faults of the infrastructure for a day."""
    return make_problem(
        "infrastructure",
        "The job could not be finished within a day: the database or the store of pictures and "
        "files kept failing, or no worker knew all of its options. Ask the operator of this "
        "service, then send it again.",
    )


def clear_after(service: Service, jobs: Iterable[JobRow]) -> None:
    """Remove the blobs of jobs that ended without a result; call this after the commit."""
    for job in jobs:
        if job.status in (JobStatus.FAILED, JobStatus.CANCELLED):
            remove_blobs(service, prefix=keys.job_prefix(job.id))


def settle_training(service: Service, job: JobRow) -> None:
    """Clean up after a training that has succeeded; call this after the commit.

    This removes the training's states and moves its preview to the key that the previous release
    also knows. If a step fails, the collector removes the rest, and the row still names the
    preview.
    """
    remove_blobs(service, key=keys.previous_state_key(job.id))
    if job.state_attempt is not None:
        remove_blobs(service, key=keys.state_key(job.id, job.state_attempt))
    if job.preview_attempt is not None:
        drawn = keys.preview_key(job.id, job.preview_attempt)
        with suppress(BlobNotFound, Unavailable):
            service.blobs.put(keys.last_preview_key(job.id), service.blobs.get(drawn))
            service.blobs.delete(drawn)
    clear_earlier_attempts(service, job)


def clear_earlier_attempts(service: Service, job: JobRow) -> None:
    """Remove the blobs that other attempts of a succeeded job wrote; call this after the commit.

    The leases of earlier attempts are over, so no row will name their blobs. A training's previews
    stay.
    """
    if job.attempt == 1:
        return
    kept = keys.attempt_prefix(job.id, job.attempt)
    previews = keys.preview_keys(job.id, job.preview_attempt)
    try:
        for blob in list(service.blobs.list(keys.job_prefix(job.id))):
            if not blob.key.startswith(kept) and blob.key not in previews:
                service.blobs.delete(blob.key)
    except Unavailable:
        _log.warning("blobs_left_for_the_collector", prefix=keys.job_prefix(job.id))


def remove_blobs(service: Service, *, prefix: str | None = None, key: str | None = None) -> None:
    """Remove a folder of blobs, or one blob, that no row names any more.

    If the blob store is unavailable, do not fail, because the collector removes the blobs later.
    """
    try:
        if prefix is not None:
            service.blobs.delete_prefix(prefix)
        if key is not None:
            service.blobs.delete(key)
    except Unavailable:
        _log.warning("blobs_left_for_the_collector", prefix=prefix, key=key)

"""Repair what crashes and lost messages leave behind. Any number of processes may run a pass.

A pass first runs one query, and usually finds that there is nothing to do. Otherwise the pass makes
conditional updates that skip rows locked by other transactions. So two reconcilers at the same time
repair each job only once. A reconciler never waits for another process, even if the other process
is frozen inside a transaction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import compress

from sqlalchemy import ColumnElement, case, exists, select, true, update
from sqlalchemy.orm import Session

from service.database.tables import JobRow
from service.jobs import transitions
from service.statuses import JobStatus, Queue
from service.wiring import Service

# Seconds until the next notice for a job that no worker has claimed, by the number of notices.
_NOTIFY_AGAIN_SECONDS = (5, 10, 20, 40, 60)
# The most jobs of one pass. The next pass follows soon, and short transactions hold locks briefly.
_MOST_AT_ONCE = 200
# A message wakes a worker, which then claims jobs until none is left. More messages than idle
# workers are useless, and if no worker listens, messages would pile up without limit.
_MOST_PENDING = 100


@dataclass(frozen=True, kw_only=True)
class Reconciled:
    """The number of jobs that one pass moved, and of jobs that the pass notified workers of."""

    cancelled: int
    requeued: int
    failed: int
    notified: int


def reconcile(service: Service, *, may_take: Callable[[], bool] = lambda: True) -> Reconciled:
    """End cancelled jobs without a worker, requeue or fail expired jobs, notify of waiting jobs.

    Expired leases are not touched if `may_take` returns False. `may_take` is called after reading
    the clock that the leases are compared with.
    """
    with service.database.read() as session:
        broken, due = _check(session, now=service.database.now(session))
    ended, requeued = _repair_expired(service, may_take) if broken else ([], [])
    due |= {job.queue for job in requeued}
    return Reconciled(
        cancelled=sum(job.status is JobStatus.CANCELLED for job in ended),
        requeued=len(requeued),
        failed=sum(job.status is JobStatus.FAILED for job in ended),
        notified=sum(_notify(service, queue) for queue in due),
    )


def orphans_at_start(service: Service) -> int:
    """Take every running job away from its worker, which ended with the previous process.

    Call this only if a single process is server and worker, and before its worker starts. Return
    how many jobs were running.
    """
    with service.database.write() as session:
        now = service.database.now(session)
        ended, requeued = _repair(session, now=now, expired=true())
        # The messages for queued jobs were lost with the process, so notify again at once.
        session.execute(
            update(JobRow).where(JobRow.status == JobStatus.QUEUED).values(dispatch_at=now, rings=0)
        )
    transitions.clear_after(service, ended)
    return len(ended) + len(requeued)


def _check(session: Session, *, now: datetime) -> tuple[bool, set[Queue]]:
    """Return whether any job needs a repair, and the queues with jobs that are due for a notice."""
    expired = (JobRow.status == JobStatus.RUNNING, JobRow.lease_until < now)
    flagged = (JobRow.status == JobStatus.QUEUED, JobRow.cancel_requested_at.is_not(None))
    questions = [expired, flagged, *((JobRow.queue == queue, *_due(now)) for queue in Queue)]
    answers = session.execute(select(*(exists().where(*each) for each in questions))).one()
    return any(answers[:2]), set(compress(Queue, answers[2:]))


def _repair_expired(
    service: Service, may_take: Callable[[], bool]
) -> tuple[list[JobRow], list[JobRow]]:
    """Repair the jobs that `_check` found; return the ended jobs and the jobs that wait again."""
    with service.database.write() as session:
        now = service.database.now(session)
        if not may_take():
            return [], []
        ended, requeued = _repair(session, now=now, expired=JobRow.lease_until < now)
    transitions.clear_after(service, ended)
    return ended, requeued


def _repair(
    session: Session, *, now: datetime, expired: ColumnElement[bool]
) -> tuple[list[JobRow], list[JobRow]]:
    flagged = JobRow.cancel_requested_at.is_not(None)
    free = _free(JobRow.status == JobStatus.RUNNING, expired)
    # Remove the token, so that it cannot be mistaken for the token of the claim that ended the job.
    fenced = {"lease_token": None}
    ended = transitions.change(
        session,
        now=now,
        where=(flagged, _free(JobRow.status == JobStatus.QUEUED, flagged)),
        old=JobStatus.QUEUED,
        new=JobStatus.CANCELLED,
        reason="cancelled",
    )
    ended += transitions.change(
        session,
        now=now,
        where=(flagged, expired, free),
        old=JobStatus.RUNNING,
        new=JobStatus.CANCELLED,
        reason="cancelled_lease_expired",
        values=fenced,
    )
    ended += transitions.change(
        session,
        now=now,
        where=(expired, JobRow.attempts_spent >= JobRow.max_attempts, free),
        old=JobStatus.RUNNING,
        new=JobStatus.FAILED,
        reason="attempts_spent",
        values={**fenced, "error": transitions.worker_lost()},
    )
    requeued = transitions.change(
        session,
        now=now,
        where=(expired, free),
        old=JobStatus.RUNNING,
        new=JobStatus.QUEUED,
        reason="lease_expired",
        values=transitions.waiting(notify_at=now),
    )
    return ended, requeued


def _free(*which: ColumnElement[bool], most: int = _MOST_AT_ONCE) -> ColumnElement[bool]:
    """Return the condition that a job meets `which` and no other transaction has locked its row."""
    some = select(JobRow.id).where(*which).order_by(JobRow.dispatch_at).limit(most)
    # PostgreSQL may run a plain subquery again for each row, and so exceed the limit.
    once = some.with_for_update(skip_locked=True).cte("free")
    return JobRow.id.in_(select(once.c.id))


def _due(now: datetime) -> tuple[ColumnElement[bool], ...]:
    return JobRow.status == JobStatus.QUEUED, JobRow.dispatch_at <= now


def _notify(service: Service, queue: Queue) -> int:
    """Notify of due jobs and return how many; while messages are pending, write nothing."""
    room = _MOST_PENDING - service.notifier.pending(queue)
    if room <= 0:
        return 0
    job_ids = _take_due(service, queue, most=room)
    for notified, job_id in enumerate(job_ids):
        if not service.notifier.notify(job_id, queue):
            # Each failure may take seconds, and the next notification would fail as well.
            _notify_soon(service, job_ids)
            return notified
    return len(job_ids)


def _take_due(service: Service, queue: Queue, *, most: int) -> list[str]:
    """Select the jobs to notify of now, and set the time of their next notice."""
    with service.database.write() as session:
        now = service.database.now(session)
        steps = [
            (JobRow.rings == times, now + timedelta(seconds=seconds))
            for times, seconds in enumerate(_NOTIFY_AGAIN_SECONDS[:-1])
        ]
        due = (JobRow.queue == queue, *_due(now))
        rows = session.execute(
            update(JobRow)
            .where(*due, _free(*due, most=most))
            .values(
                dispatch_at=case(*steps, else_=now + timedelta(seconds=_NOTIFY_AGAIN_SECONDS[-1])),
                rings=JobRow.rings + 1,
            )
            .returning(JobRow.id, JobRow.created_at)
            .execution_options(synchronize_session=False)
        )
        return [row.id for row in sorted(rows, key=lambda row: (row.created_at, row.id))]


def _notify_soon(service: Service, job_ids: list[str]) -> None:
    with service.database.write() as session:
        soon = service.database.now(session) + timedelta(seconds=_NOTIFY_AGAIN_SECONDS[0])
        session.execute(
            update(JobRow)
            .where(JobRow.id.in_(job_ids), JobRow.status == JobStatus.QUEUED)
            .values(dispatch_at=soon, rings=0)
            .execution_options(synchronize_session=False)
        )

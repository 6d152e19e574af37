"""How a worker claims a job: a conditional update that gives the job a new lease token.

The caller can choose the token in advance, so that it can find its claim even if the answer was
lost.
"""

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, select

from service.database.tables import JobRow
from service.jobs import job_order, transitions
from service.jobs.lease_types import ClaimedJob
from service.statuses import JobStatus, Queue
from service.wiring import Service


def new_token() -> str:
    """Return a lease token that no other claim has."""
    return uuid.uuid4().hex


def claim_next(
    service: Service, queue: Queue, *, worker_id: str, token: str | None = None
) -> ClaimedJob | None:
    """Claim the queue's next job (see job_order.py). Return None if no job can be claimed now.

    If the answer may get lost, pass a `token` and then look up the job with `claimed_with`.
    """
    return _claim(
        service,
        lambda now: (
            JobRow.id
            == job_order.next_job(
                queue, now=now, most_running=service.settings.max_running_jobs_per_owner
            )
        ),
        worker_id=worker_id,
        token=token or new_token(),
    )


def claimed_with(service: Service, token: str) -> ClaimedJob | None:
    """Return the running job that was claimed with `token`; None if no such job runs now."""
    with service.database.read() as session:
        job = session.scalar(
            select(JobRow).where(JobRow.status == JobStatus.RUNNING, JobRow.lease_token == token)
        )
        return None if job is None else _claimed(job, token)


def _claim(
    service: Service,
    which: Callable[[datetime], ColumnElement[bool]],
    *,
    worker_id: str,
    token: str,
) -> ClaimedJob | None:
    with service.database.write() as session:
        now = service.database.now(session)
        jobs = transitions.change(
            session,
            now=now,
            where=(which(now), JobRow.cancel_requested_at.is_(None)),
            old=JobStatus.QUEUED,
            new=JobStatus.RUNNING,
            reason="claimed",
            values={
                "attempt": JobRow.attempt + 1,
                "attempts_spent": JobRow.attempts_spent + 1,
                "lease_token": token,
                "lease_until": now + timedelta(seconds=service.settings.lease_seconds),
                "worker_id": worker_id,
                "started_at": func.coalesce(JobRow.started_at, now),
            },
        )
        if not jobs:
            return None
        [job] = jobs
        if job.faulted_at is not None and job.not_before is not None:
            # Do not count the time in the queue as part of the series of faults.
            job.faulted_at += max(now - job.not_before, timedelta())
        return _claimed(job, token)


def _claimed(job: JobRow, token: str) -> ClaimedJob:
    return ClaimedJob(
        id=job.id,
        kind=job.kind,
        owner_id=job.owner_id,
        payload=job.payload,
        attempt=job.attempt,
        attempts_spent=job.attempts_spent,
        faults=0 if job.faulted_at is None else job.attempt - job.attempts_spent,
        lease_token=token,
        concept_id=job.concept_id,
        state_attempt=job.state_attempt,
        finish_step=job.finish_step,
    )

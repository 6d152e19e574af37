"""A worker's writes to its job: warnings and the end; see also claiming.py and heartbeats.py.

A claim gives the job a new lease token, and every later write checks the token. So a worker that
lost its lease (because the worker slept or the network failed) can no longer change the job. All
writes are conditional `UPDATE .. RETURNING`, so any number of workers and reconcilers may run at
once, on SQLite and PostgreSQL alike. If a function returns False or LOST, the caller stops and
deletes nothing, because the collector removes the blobs that no row names.

`queued -> running -> succeeded | failed | cancelled`, and `running -> queued` (lease expired,
infrastructure fault, drain). The last three statuses are final. Every function here may raise
Unavailable (the database does not answer) and may then be called again, even if the commit
succeeded and only its answer was lost: the repeated call returns True again. `fail` and `release`
return True even if this claim already succeeded, so that callers never delete blobs that the row
names. `claimed_with` finds the job of a claim whose answer was lost.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service import errors
from service.blobs import keys
from service.concepts import versions
from service.database.tables import JobRow
from service.execution.claiming import claim_next, claimed_with, new_token
from service.execution.heartbeats import heartbeat, held
from service.jobs import image_rows, inspection_rows, lease_types, transitions
from service.jobs.lease_types import ClaimedJob, Lease, NewAttentionMap, NewImage, TrainedConcept
from service.jobs.payloads import JudgePayload
from service.statuses import TERMINAL, JobStatus
from service.wiring import Service

__all__ = [
    "ClaimedJob",
    "Lease",
    "NewAttentionMap",
    "NewImage",
    "TrainedConcept",
    "cancelled",
    "claim_next",
    "claimed_with",
    "fail",
    "finish_generation",
    "finish_inspection",
    "finish_judgement",
    "finish_training",
    "heartbeat",
    "lock",
    "new_token",
    "release",
    "warn",
]

# A fault of the infrastructure spends no attempt; this limit ends a job after endless faults.
_PATIENCE = timedelta(hours=24)


def warn(service: Service, claimed: ClaimedJob, *, warnings: Sequence[dict[str, Any]]) -> bool:
    """Replace a running job's warnings, which tell its owner what may go wrong."""
    with service.database.write() as session:
        told = session.execute(
            update(JobRow)
            .where(JobRow.status == JobStatus.RUNNING, *held(claimed))
            .values(warnings=list(warnings), version=JobRow.version + 1)
            .returning(JobRow.id)
            .execution_options(synchronize_session=False)
        ).one_or_none()
    return told is not None


def finish_training(service: Service, claimed: ClaimedJob, *, trained: TrainedConcept) -> bool:
    """End a training: in one transaction the job succeeds and its concept becomes ready.

    A concept that was ready before gets the new file or keeps the old file, see
    concepts/versions.py.
    """
    before = versions.standing(service, claimed.concept_id)
    dropped: list[str] = []

    def store(session: Session, job: JobRow) -> None:
        dropped[:] = versions.take(session, job, trained=trained, before=before)

    job = _succeed(service, claimed, store=store)
    if job is not None:
        versions.clear(service, dropped)
        transitions.settle_training(service, job)
    return job is not None


def finish_judgement(
    service: Service, claimed: ClaimedJob, *, judged: TrainedConcept | None, warning: str = ""
) -> bool:
    """End a judgement: in one transaction the job succeeds and the concept gets its new file.

    Without `judged` the concept keeps its file, and the job's `warning` says why.
    """
    dropped: list[str] = []

    def store(session: Session, job: JobRow) -> None:
        if judged is not None:
            dropped[:] = versions.take_judged(session, job, judged=judged)
        else:
            named = [{"id": job.concept_id, "name": JudgePayload.read(job.payload).name}]
            told = {**errors.problem("not-judged", warning), "concepts": named}
            job.warnings = [*(job.warnings or []), told]

    job = _succeed(service, claimed, store=store)
    if job is not None:
        versions.clear(service, dropped)
        transitions.clear_earlier_attempts(service, job)
    return job is not None


def finish_generation(service: Service, claimed: ClaimedJob, *, images: Sequence[NewImage]) -> bool:
    """End a generation: one transaction marks the job succeeded and adds its images.

    The uploaded picture of an edit is deleted.
    """

    def store(session: Session, job: JobRow) -> None:
        session.add_all(image_rows.new_row(job, image) for image in images)

    job = _succeed(service, claimed, store=store)
    if job is not None:
        transitions.clear_earlier_attempts(service, job)
        if job.preview_attempt is not None:
            key = keys.live_previews_key(job.id, job.preview_attempt)
            transitions.remove_blobs(service, key=key)
        if job.payload.get("edit"):
            transitions.remove_blobs(service, prefix=keys.edit_prefix(job.id))
    return job is not None


def finish_inspection(
    service: Service, claimed: ClaimedJob, *, pictures: Sequence[lease_types.NewInspectedPicture]
) -> bool:
    """End an inspection: its job's row keeps what was found, and the pictures are deleted."""

    def store(session: Session, job: JobRow) -> None:
        job.inspection = inspection_rows.to_row(pictures)

    job = _succeed(service, claimed, store=store)
    if job is not None:
        transitions.remove_blobs(service, prefix=keys.inspected_prefix(job.id))
        transitions.clear_earlier_attempts(service, job)
    return job is not None


def fail(service: Service, claimed: ClaimedJob, *, problem: dict[str, Any]) -> bool:
    """End a job that cannot succeed; the owner sees `problem`, which `errors.problem` makes.

    If the owner has asked for cancellation, the job ends as cancelled instead.
    """
    with service.database.write() as session:
        job = lock(session, claimed)
        if job is None:
            jobs = _ended(session, claimed)
        elif job.cancel_requested_at is None:
            jobs = _leave(service, session, claimed, new=JobStatus.FAILED, error=problem)
        else:
            jobs = _leave(service, session, claimed, new=JobStatus.CANCELLED)
    transitions.clear_after(service, jobs)
    return bool(jobs)


def cancelled(service: Service, claimed: ClaimedJob) -> bool:
    """End a job as cancelled at its owner's request, once its work has stopped.

    Without the owner's request the job goes back to the queue, because only the owner may cancel a
    job.
    """
    return release(service, claimed, delay_seconds=0, spend_attempt=False)


def release(
    service: Service, claimed: ClaimedJob, *, delay_seconds: float, spend_attempt: bool
) -> bool:
    """Give a job back to the queue after a drain (no delay) or an infrastructure fault.

    With `spend_attempt` the attempt counts against the job's limit, unless the attempt made
    progress (see checkpoints.py); the job fails after its last attempt. Without `spend_attempt` the
    job fails after a day of faults. The day begins with the first fault, starts again after
    progress, and does not include the time that the job waited in the queue. If the owner has asked
    for cancellation, the job ends as cancelled.
    """
    delay = timedelta(seconds=delay_seconds)
    is_fault = delay_seconds > 0 and not spend_attempt
    with service.database.write() as session:
        job = lock(session, claimed)
        now = service.database.now(session)
        if job is None:
            jobs = _ended(session, claimed)
        elif job.cancel_requested_at is not None:
            jobs = _leave(service, session, claimed, new=JobStatus.CANCELLED)
        elif spend_attempt and job.attempts_spent >= job.max_attempts:
            jobs = _leave(
                service, session, claimed, new=JobStatus.FAILED, error=transitions.worker_lost()
            )
        elif is_fault and now - (job.faulted_at or now) > _PATIENCE:
            jobs = _leave(
                service,
                session,
                claimed,
                new=JobStatus.FAILED,
                error=transitions.infrastructure_failed(),
            )
        else:
            jobs = _leave(
                service,
                session,
                claimed,
                new=JobStatus.QUEUED,
                values={
                    **transitions.waiting(notify_at=now + delay),
                    "attempts_spent": job.attempts_spent
                    if spend_attempt
                    else claimed.attempts_spent - 1,
                    "faulted_at": (job.faulted_at or now) if is_fault else job.faulted_at,
                },
            )
    transitions.clear_after(service, jobs)
    return bool(jobs)


def _succeed(
    service: Service, claimed: ClaimedJob, *, store: Callable[[Session, JobRow], None]
) -> JobRow | None:
    with service.database.write() as session:
        jobs = transitions.change(
            session,
            now=service.database.now(session),
            where=(*held(claimed), JobRow.cancel_requested_at.is_(None)),
            old=JobStatus.RUNNING,
            new=JobStatus.SUCCEEDED,
            reason="succeeded",
            values={"step": JobRow.total_steps},
        )
        if not jobs:
            ended = _ended(session, claimed)
            return ended[0] if ended and ended[0].status is JobStatus.SUCCEEDED else None
        store(session, jobs[0])
        return jobs[0]


def _leave(
    service: Service,
    session: Session,
    claimed: ClaimedJob,
    *,
    new: JobStatus,
    error: dict[str, Any] | None = None,
    values: dict[str, Any] | None = None,
) -> list[JobRow]:
    return transitions.change(
        session,
        now=service.database.now(session),
        where=held(claimed),
        old=JobStatus.RUNNING,
        new=new,
        reason="released" if new is JobStatus.QUEUED else new.value,
        values={**(values or {}), **({"error": error} if error else {})},
    )


def lock(session: Session, claimed: ClaimedJob) -> JobRow | None:
    """Lock and return the running job that this claim holds; None if the claim is invalid."""
    return session.scalar(
        select(JobRow).where(JobRow.status == JobStatus.RUNNING, *held(claimed)).with_for_update()
    )


def _ended(session: Session, claimed: ClaimedJob) -> list[JobRow]:
    """Return the job that this claim has already ended, or None.

    A job that its claim ended keeps the lease token; a job whose lease expired has no lease token.
    """
    return list(session.scalars(select(JobRow).where(JobRow.status.in_(TERMINAL), *held(claimed))))

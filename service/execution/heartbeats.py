"""A worker's heartbeat: it renews the lease, writes progress, and reads what the owner asks for."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, update

from service.database.tables import JobRow
from service.jobs.lease_types import ClaimedJob, Lease
from service.jobs.views import ProgressView
from service.statuses import JobStatus, Phase
from service.wiring import Service

# An event stream with previews renews its wish a few times in this time, see jobs/live_previews.py.
WATCHED_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Renewal:
    """What the worker learns from its heartbeat."""

    lease: Lease
    finish_step: int | None = None  # end the training after this step; None: not requested
    wants_previews: bool = False  # a reader of the job's events asks for previews


def held(claimed: ClaimedJob) -> tuple[ColumnElement[bool], ...]:
    """Return the condition that a row is the job of this claim, and has its lease token."""
    return (JobRow.id == claimed.id, JobRow.lease_token == claimed.lease_token)


def heartbeat(
    service: Service,
    claimed: ClaimedJob,
    *,
    progress: ProgressView | None = None,
    phase: Phase | None = None,
) -> Renewal:
    """Renew the lease, and report what is new; return whether the worker may go on, and how."""
    with service.database.write() as session:
        now = service.database.now(session)
        values: dict[str, Any] = {
            "lease_until": now + timedelta(seconds=service.settings.lease_seconds)
        }
        if progress is not None or phase is not None:
            values["version"] = JobRow.version + 1
        if progress is not None:
            values |= progress.model_dump(exclude={"phase"})
        if phase is not None:
            values["phase"] = phase.value
        row = session.execute(
            update(JobRow)
            .where(JobRow.status == JobStatus.RUNNING, *held(claimed))
            .values(values)
            .returning(JobRow.cancel_requested_at, JobRow.finish_step, JobRow.previews_wanted_at)
            .execution_options(synchronize_session=False)
        ).one_or_none()
    if row is None:
        return Renewal(lease=Lease.LOST)
    wanted_at = row.previews_wanted_at
    return Renewal(
        lease=Lease.KEPT if row.cancel_requested_at is None else Lease.CANCEL_REQUESTED,
        finish_step=row.finish_step,
        wants_previews=wanted_at is not None
        and now - wanted_at < timedelta(seconds=WATCHED_SECONDS),
    )

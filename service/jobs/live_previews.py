"""Previews of a running generation: its followers ask for them, and its worker stores them."""

from datetime import timedelta

from sqlalchemy import update

from service.blobs import keys
from service.blobs.store import BlobNotFound
from service.database.tables import JobRow
from service.jobs import use_cases
from service.jobs.views import EventPreviews
from service.statuses import JobKind, JobStatus
from service.wiring import Service

# The worker draws previews for heartbeats.WATCHED_SECONDS after the last wish.
_WISH_AGAIN_SECONDS = 3.0


def watch(service: Service, owner_id: str, *, job_id: str) -> EventPreviews | None:
    """Ask for previews of a generation of this owner; return the newest ones, if there are any.

    Raises NotFound for a job of another owner.
    """
    with service.database.read() as session:
        job = use_cases.find(session, owner_id, job_id=job_id)
        now = service.database.now(session)
    if job.kind is not JobKind.GENERATE or job.status is not JobStatus.RUNNING:
        return None
    wanted_at = job.previews_wanted_at
    if wanted_at is None or now - wanted_at > timedelta(seconds=_WISH_AGAIN_SECONDS):
        with service.database.write() as session:
            session.execute(
                update(JobRow)
                .where(JobRow.id == job_id, JobRow.status == JobStatus.RUNNING)
                .values(previews_wanted_at=now)
                .execution_options(synchronize_session=False)
            )
    if job.preview_attempt is None:
        return None
    try:
        stored = service.blobs.get(keys.live_previews_key(job_id, job.preview_attempt))
    except BlobNotFound:
        return None
    return EventPreviews.model_validate_json(stored)

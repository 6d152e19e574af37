"""Jobs as their owner sees them: get, list, cancel, and fetch their results."""

from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy import bindparam, select, tuple_
from sqlalchemy.orm import Session, aliased

from service.blobs import keys
from service.blobs.store import BlobNotFound, StoredFile
from service.database.tables import JobRow
from service.errors import Conflict, NotFound, Problem
from service.ids import is_plausible
from service.jobs import image_rows, inspection_rows, job_order, requested, transitions
from service.jobs.views import ImageView, JobView, JobWarning, ProgressView
from service.pages import DEFAULT_LIMIT, Page, read_page
from service.statuses import TERMINAL, JobKind, JobStatus, Phase
from service.wiring import Service


def get(service: Service, owner_id: str, *, job_id: str) -> JobView:
    """Return a job of this owner."""
    with service.database.read() as session:
        return view(session, find(session, owner_id, job_id=job_id))


def list_page(
    service: Service,
    owner_id: str,
    *,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
    status: JobStatus | None = None,
    kind: JobKind | None = None,
) -> Page[JobView]:
    """Return one page of this owner's jobs, newest first."""
    statement = select(JobRow).where(JobRow.owner_id == owner_id)
    if status is not None:
        statement = statement.where(JobRow.status == status)
    if kind is not None:
        statement = statement.where(JobRow.kind == kind)
    with service.database.read() as session:
        return read_page(
            session,
            statement,
            created_at=JobRow.created_at,
            identity=JobRow.id,
            limit=limit,
            cursor=cursor,
            to_views=lambda rows: views(session, rows),
        )


def cancel(service: Service, owner_id: str, *, job_id: str) -> JobView:
    """Cancel a job: a queued job ends at once, a running job within a step.

    A second call changes nothing; raise Conflict if the job has ended.
    """
    with service.database.write() as session:
        job = find(session, owner_id, job_id=job_id)
        now = service.database.now(session)
        ended = transitions.request_cancel(session, now=now, where=(JobRow.id == job_id,))
        session.refresh(job)
        if job.status in TERMINAL and not ended:
            raise already_ended(job, "cancel")
        result = view(session, job)
    transitions.clear_after(service, ended)
    return result


def read_image(service: Service, owner_id: str | None, *, image_id: str) -> StoredFile:
    """Return the PNG of an image of this owner; for None (a signed link), of any owner."""
    with service.database.read() as session:
        image = image_rows.find(session, owner_id, image_id=image_id)
    try:
        return StoredFile(data=service.blobs.get(image.blob_key), sha256=image.sha256)
    except BlobNotFound:
        raise NotFound("image-not-found", "The file of this image is gone.") from None


def read_attention_map(
    service: Service, owner_id: str | None, *, image_id: str, number: int
) -> StoredFile:
    """Return the PNG of one of an image's attention maps; `owner_id` is as for `read_image`."""
    with service.database.read() as session:
        maps = image_rows.find(session, owner_id, image_id=image_id).attention_maps or []
    if not 0 <= number < len(maps):
        raise NotFound(
            "attention-map-not-found",
            "This image has no such attention map. Ask for them with attention_maps: true.",
        )
    stored = maps[number]
    try:
        return StoredFile(data=service.blobs.get(stored["blob_key"]), sha256=stored["sha256"])
    except BlobNotFound:
        raise NotFound("attention-map-not-found", "The file of this map is gone.") from None


def read_mask(service: Service, owner_id: str | None, *, job_id: str, number: int) -> StoredFile:
    """Return the PNG of the mask that an inspection chose; `owner_id` is as for `read_image`."""
    with service.database.read() as session:
        found = find(session, owner_id, job_id=job_id).inspection or []
    stored = found[number] if number < len(found) else None
    if stored is None or stored["mask_key"] is None:
        raise NotFound("mask-not-found", "This job has no mask of this picture.")
    try:
        return StoredFile(data=service.blobs.get(stored["mask_key"]), sha256=stored["mask_sha256"])
    except BlobNotFound:
        raise NotFound("mask-not-found", "The file of this mask is gone.") from None


def preview(service: Service, owner_id: str, *, job_id: str) -> bytes:
    """Return the latest preview PNG of a training of this owner."""
    with service.database.read() as session:
        job = find(session, owner_id, job_id=job_id)
    for key in keys.preview_keys(job_id, job.preview_attempt):
        with suppress(BlobNotFound):
            return service.blobs.get(key)
    raise NotFound("preview-not-found", "This job has no preview picture (yet).")


def find(session: Session, owner_id: str | None, *, job_id: str, lock: bool = False) -> JobRow:
    """Return a job of this owner, or for None of any owner; raise NotFound.

    With `lock` the row is locked until the commit.
    """
    plausible = is_plausible(job_id)
    job = session.get(JobRow, job_id, with_for_update=lock) if plausible else None
    if job is None or owner_id not in (job.owner_id, None):
        raise NotFound("job-not-found", "There is no such job.")
    return job


def already_ended(job: JobRow, verb: str) -> Conflict:
    """Return the error of a wish that comes after the job's end."""
    return Conflict(
        "job-finished", f"This job has {_HAS_ENDED[job.status]} already; nothing to {verb}."
    )


def accepted(job: JobRow, *, queue_position: int) -> JobView:
    """Return the view of a job that has just been queued."""
    return _view(job, images=(), queue_position=queue_position)


def view(session: Session, job: JobRow) -> JobView:
    """Return the view of one job, within a transaction."""
    return views(session, [job])[0]


def views(session: Session, jobs: Sequence[JobRow]) -> list[JobView]:
    """Return the views of `jobs`, with at most two more queries for all jobs together."""
    images = image_rows.views_of(
        session, [job.id for job in jobs if job.status is JobStatus.SUCCEEDED]
    )
    positions = _positions_of(session, [job.id for job in jobs if job.status is JobStatus.QUEUED])
    return [
        _view(job, images=images.get(job.id, ()), queue_position=positions.get(job.id))
        for job in jobs
    ]


def _view(job: JobRow, *, images: Sequence[ImageView], queue_position: int | None) -> JobView:
    return JobView(
        id=job.id,
        kind=job.kind,
        status=job.status,
        progress=_progress(job),
        queue_position=queue_position,
        attempt=job.attempt,
        concept_id=job.concept_id,
        images=tuple(images),
        pictures=inspection_rows.views_of(job),
        error=None if job.error is None else Problem(**job.error),
        warnings=tuple(JobWarning(**told) for told in job.warnings or ()),
        request=requested.request_of(job),
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        version=job.version,
    )


_AHEAD = aliased(JobRow)
_POSITIONS = select(
    JobRow.id,
    job_order.counted(
        select(_AHEAD.turn)
        .where(
            _AHEAD.queue == JobRow.queue,
            _AHEAD.status == JobStatus.QUEUED,
            tuple_(_AHEAD.turn, _AHEAD.created_at, _AHEAD.id)
            <= tuple_(JobRow.turn, JobRow.created_at, JobRow.id),
        )
        .correlate(JobRow),
        most=job_order.LAST_POSITION,
    ),
).where(JobRow.id.in_(bindparam("ids", expanding=True)))

# A newer release may know more of them.
_PHASES = frozenset(Phase)
_HAS_ENDED = {
    JobStatus.SUCCEEDED: "succeeded",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELLED: "been cancelled",
}


def _progress(job: JobRow) -> ProgressView:
    running, pace = job.status is JobStatus.RUNNING, job.seconds_per_step
    eta_seconds = None
    if running and job.phase is not None:
        eta_seconds = job.eta_seconds
    elif running and pace is not None:  # a worker of the previous release, which tells no phase
        eta_seconds = round(max(0, job.total_steps - job.step) * pace, 1)
    return ProgressView(
        step=job.step,
        total_steps=job.total_steps,
        seconds_per_step=pace,
        eta_seconds=eta_seconds,
        phase=Phase(job.phase) if running and job.phase in _PHASES else None,
    )


def _positions_of(session: Session, job_ids: Sequence[str]) -> dict[str, int]:
    """Return the position of each queued job in its queue; position 1 starts next."""
    if not job_ids:
        return {}
    rows = session.execute(_POSITIONS, {"ids": list(job_ids)})
    return {job_id: count for job_id, count in rows}  # noqa: C416 (Row is no tuple for mypy)

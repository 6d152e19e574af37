"""An owner's images: listed, searched, looked at and deleted."""

import hashlib
from collections.abc import Sequence

from sqlalchemy import delete as delete_rows
from sqlalchemy import select
from sqlalchemy.orm import Session

from perfusion_core.imaging import thumbnails
from service.blobs.store import BlobNotFound, StoredFile
from service.database.tables import ImageRow, JobRow
from service.images import search
from service.images.views import LibraryImageView
from service.jobs import image_rows, transitions
from service.jobs import use_cases as jobs
from service.jobs.requested import request_of
from service.pages import DEFAULT_LIMIT, Page, read_page
from service.wiring import Service


def list_page(
    service: Service,
    owner_id: str,
    *,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
    concept: str | None = None,
    text: str | None = None,
    job_id: str | None = None,
) -> Page[LibraryImageView]:
    """Return one page of this owner's images, newest first.

    `concept` is the id or name of a concept in the prompt, `text` a part of the prompt.
    """
    statement = select(ImageRow).where(ImageRow.owner_id == owner_id)
    with service.database.read() as session:
        if job_id is not None:
            # By their ids, or the database might look for the few images of a job among all.
            of_job = session.scalars(select(ImageRow.id).where(ImageRow.job_id == job_id)).all()
            statement = statement.where(ImageRow.id.in_(of_job))
        if concept is not None:
            statement = statement.where(search.with_concept(session, owner_id, ref=concept))
        if text is not None:
            statement = statement.where(search.with_text(text))
        return read_page(
            session,
            statement,
            created_at=ImageRow.created_at,
            identity=ImageRow.id,
            limit=limit,
            cursor=cursor,
            to_views=lambda rows: _views(session, rows),
        )


def get(service: Service, owner_id: str, *, image_id: str) -> LibraryImageView:
    """Return an image of this owner, and how it was made."""
    with service.database.read() as session:
        (view,) = _views(session, [image_rows.find(session, owner_id, image_id=image_id)])
    return view


def read_thumbnail(service: Service, owner_id: str | None, *, image_id: str) -> StoredFile:
    """Return an image's thumbnail as WebP; for the owner None (a signed link), of any owner.

    It is drawn from the image where no thumbnail is stored: images of earlier releases have none,
    and the previous release collects it, because it does not know that a row names it.
    """
    with service.database.read() as session:
        key = image_rows.find(session, owner_id, image_id=image_id).thumbnail_key
    try:
        data = service.blobs.get(key) if key is not None else None
    except BlobNotFound:
        data = None
    if data is None:
        data = thumbnails.of_png(jobs.read_image(service, owner_id, image_id=image_id).data)
    return StoredFile(data=data, sha256=hashlib.sha256(data).hexdigest())


def delete(service: Service, owner_id: str, *, image_id: str) -> None:
    """Delete an image of this owner with its thumbnail and its attention maps; its job stays."""
    with service.database.write() as session:
        image = image_rows.find(session, owner_id, image_id=image_id)
        gone = session.execute(
            delete_rows(ImageRow).where(ImageRow.id == image.id).returning(*image_rows.BLOBS)
        ).all()
    if not gone:  # another request was faster
        raise image_rows.not_found()
    for key in image_rows.blob_keys_of(gone):
        transitions.remove_blobs(service, key=key)


def _views(session: Session, rows: Sequence[ImageRow]) -> list[LibraryImageView]:
    of_jobs = select(JobRow).where(JobRow.id.in_({row.job_id for row in rows}))
    requests = {job.id: request_of(job) for job in session.scalars(of_jobs)}
    return [
        LibraryImageView(
            **image_rows.fields_of(row),
            job_id=row.job_id,
            created_at=row.created_at,
            request=requests[row.job_id],
        )
        for row in rows
    ]

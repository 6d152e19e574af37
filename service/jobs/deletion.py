"""Delete finished jobs with everything that belongs to them, at their owner's request.

The rows of a few images are deleted in each transaction, and then the blobs that these rows named;
the job's own row comes last. So a crash leaves no more blobs without a row than the garbage
collection removes, and a second request deletes the rest.
"""

from sqlalchemy import delete as delete_rows
from sqlalchemy import select
from sqlalchemy.orm import Session

from service.blobs import keys
from service.database.tables import ConceptRow, ImageRow, JobRow
from service.errors import Conflict
from service.jobs import image_rows, transitions
from service.jobs import use_cases as jobs
from service.statuses import TERMINAL
from service.wiring import Service

_IMAGES_AT_ONCE = 5  # as in garbage/retention.py


def delete(service: Service, owner_id: str, *, job_id: str) -> None:
    """Delete a finished job with its images and every file that it has read or written.

    Raise Conflict if the job has not ended, or if its concept exists: the concept's file, or the
    file before, may lie in the job's folder. Raise Unavailable if the blob store cannot serve now,
    and go on at the next call.
    """
    while True:
        with service.database.write() as session:
            _check(session, jobs.find(session, owner_id, job_id=job_id, lock=True))
            some = select(ImageRow.id).where(ImageRow.job_id == job_id).limit(_IMAGES_AT_ONCE)
            gone = session.execute(
                delete_rows(ImageRow)
                .where(ImageRow.id.in_(session.scalars(some).all()))
                .returning(*image_rows.BLOBS)
            ).all()
            if not gone:
                session.execute(delete_rows(JobRow).where(JobRow.id == job_id))
        if not gone:
            break
        for key in image_rows.blob_keys_of(gone):
            service.blobs.delete(key)
    transitions.remove_blobs(service, prefix=keys.job_prefix(job_id))


def _check(session: Session, job: JobRow) -> None:
    if job.status not in TERMINAL:
        raise Conflict(
            "job-unfinished",
            f"This job is {job.status.value}. Wait until it has ended, or cancel it first.",
        )
    if job.concept_id is not None:
        name = session.scalar(select(ConceptRow.name).where(ConceptRow.id == job.concept_id))
        raise Conflict(
            "job-of-a-concept",
            f"This job belongs to the concept {name}. Delete the concept first.",
        )

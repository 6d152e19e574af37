"""Find the blobs that no row names and that no unfinished job may still name.

One query checks a whole batch of keys. Each key contains the id of its job or concept, and an index
on that id finds nearly every key. Whole tables are read only for the remaining keys.
"""

from collections.abc import Collection, Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.blobs import keys
from service.database.tables import ConceptRow, ImageRow, JobRow, PictureRow
from service.jobs import image_rows, inspection_rows
from service.statuses import TERMINAL, JobStatus

_OF_CONCEPT = (ConceptRow.blob_key, ConceptRow.previous_blob_key)
_SHA256_BEFORE = ConceptRow.previous["sha256"].as_string()
_JOBS = select(
    JobRow.id,
    JobRow.status,
    JobRow.concept_id,
    JobRow.preview_attempt,
    JobRow.inspection,
    *_OF_CONCEPT,
).outerjoin(ConceptRow, ConceptRow.id == JobRow.concept_id)
_IMAGES = select(*image_rows.BLOBS)
_NAMING = (ImageRow.blob_key, *_OF_CONCEPT, PictureRow.blob_key, PictureRow.mask_key)


def unnamed(session: Session, blob_keys: Collection[str]) -> set[str]:
    """Return the keys among `blob_keys` that may be removed, never keys of unknown folders."""
    rest = {key for key in blob_keys if keys.owner_of(key) is not None}
    rest -= set(_found_by_owner(session, rest))
    if rest:
        rest -= set(_found_anywhere(session, rest))
    return rest


def _found_by_owner(session: Session, blob_keys: Collection[str]) -> Iterator[str]:
    owners = {key: keys.owner_of(key) for key in blob_keys}
    job_ids = {owner[1] for owner in owners.values() if owner and owner[0] == "jobs"}
    concept_ids = {owner[1] for owner in owners.values() if owner and owner[0] != "jobs"}
    if job_ids:
        unfinished = set()
        for job in session.execute(_JOBS.where(JobRow.id.in_(job_ids))):
            if job.status not in TERMINAL:
                unfinished.add(("jobs", job.id))
            elif job.status is JobStatus.SUCCEEDED and job.concept_id is not None:
                yield from keys.preview_keys(job.id, job.preview_attempt)
            yield from _named(job.blob_key, job.previous_blob_key)
            yield from inspection_rows.mask_keys_of(job.inspection)
        yield from (key for key, owner in owners.items() if owner in unfinished)
        yield from image_rows.blob_keys_of(
            session.execute(_IMAGES.where(ImageRow.job_id.in_(job_ids)))
        )
    if concept_ids:
        of_concepts = select(
            ConceptRow.id, ConceptRow.name, ConceptRow.sha256, _SHA256_BEFORE, *_OF_CONCEPT
        ).where(ConceptRow.id.in_(concept_ids))
        for concept_id, name, sha256, before, *own in session.execute(of_concepts):
            yield from _named(*own)
            # No column names a LoRA: its key is that of the row's file.
            for digest in filter(None, (sha256, before)):
                yield keys.export_key(concept_id, name=name, sha256=digest)
        of_pictures = select(PictureRow.blob_key, PictureRow.mask_key)
        for pair in session.execute(of_pictures.where(PictureRow.concept_id.in_(concept_ids))):
            yield from _named(*pair)


def _named(*blob_keys: str | None) -> Iterator[str]:
    yield from (key for key in blob_keys if key is not None)


def _found_anywhere(session: Session, blob_keys: Collection[str]) -> Iterator[str]:
    for column in _NAMING:
        yield from _named(*session.scalars(select(column).where(column.in_(blob_keys))))

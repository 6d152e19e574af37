"""Removes blobs that no row names: what crashes, outages and cancelled trainings leave behind.

A blob is written before its row, so a young one may be waiting for its row: it is left alone for
a grace period. Any number of processes may run this; removing twice is harmless.
"""

from collections.abc import Iterable
from datetime import timedelta
from itertools import groupby

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import blobs as keys
from service import image_rows
from service.blobs import BlobInfo
from service.tables import Concept, Job
from service.views import TERMINAL, JobStatus
from service.wiring import Service

GRACE = timedelta(hours=1)


def collect(service: Service, *, grace: timedelta = GRACE) -> int:
    """Remove the blobs that no row names and that are older than `grace`; return how many."""
    with service.database.read() as session:
        oldest = service.database.now(session) - grace
    old = [blob for blob in service.blobs.list() if blob.modified_at < oldest]
    old.sort(key=lambda blob: blob.key)
    removed = 0
    for owner, group in groupby(old, key=_owner_of):
        for key in _orphans(service, owner, list(group)):
            service.blobs.delete(key)
            removed += 1
    return removed


def _owner_of(blob: BlobInfo) -> tuple[str, str]:
    """Return the folder and the id of the concept or job that a blob belongs to."""
    folder, _, rest = blob.key.partition("/")
    return folder, rest.partition("/")[0].removesuffix(".safetensors")


def _orphans(service: Service, owner: tuple[str, str], blobs: Iterable[BlobInfo]) -> list[str]:
    folder, identity = owner
    with service.database.read() as session:
        if folder in ("pictures", "concepts"):
            wanted = session.get(Concept, identity) is not None
            return [] if wanted else [blob.key for blob in blobs]
        if folder == "jobs":
            named = _named_by_job(session, identity)
            return [] if named is None else [blob.key for blob in blobs if blob.key not in named]
    return []


def _named_by_job(session: Session, job_id: str) -> set[str] | None:
    """Return the keys of a job that are still named; None while the job may write more."""
    job = session.get(Job, job_id)
    if job is None:
        return set()
    if job.status not in TERMINAL:
        return None
    named = set(image_rows.blob_keys_of(session, job_id))
    concept_keys = session.scalars(select(Concept.blob_key).where(Concept.job_id == job_id))
    named |= {key for key in concept_keys if key is not None}
    if job.status is JobStatus.SUCCEEDED and job.concept_id is not None:
        named.add(keys.preview_key(job_id))
    return named

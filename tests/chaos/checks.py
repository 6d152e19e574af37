"""Checks of what must be true in the end, from the audit, the rows and the blobs."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.blobs.keys import DEPLOYMENT_KEY, last_preview_key
from service.blobs.store import BlobNotFound
from service.database.tables import (
    ConceptRow,
    IdempotencyKeyRow,
    ImageRow,
    JobEventRow,
    JobRow,
    PictureRow,
)
from service.statuses import TERMINAL, ConceptStatus, JobKind, JobStatus
from service.wiring import Service
from tests.chaos.orders import Order

_TERMINAL = {status.value for status in TERMINAL}


def violations(
    service: Service, *, orders: Sequence[Order], journal: Path, collect: Callable[[], None]
) -> dict[str, list[str]]:
    """Return a sentence for every broken promise, by kind.

    `collect` removes every blob that no row names.
    """
    with service.database.read() as session:
        found = {
            "ends": _one_end(session),
            "doubled": _one_result(session, _successes(journal)),
            "lost": _what_was_said(session, orders),
            "orphans": _no_orphan_rows(session),
        }
    collect()
    with service.database.read() as session:
        found["destroyed"] = _every_result_whole(session, service)
        found["orphans"] += _no_orphan_blobs(session, service)
    return found


def _one_end(session: Session) -> list[str]:
    """Check that every job ends once, and that its audit is complete and agrees with its row."""
    found = []
    events: dict[str, list[JobEventRow]] = defaultdict(list)
    for event in session.scalars(select(JobEventRow).order_by(JobEventRow.id)):
        events[event.job_id].append(event)
    for job in session.scalars(select(JobRow)):
        chain = events[job.id]
        ends = [event.to_status for event in chain if event.to_status in _TERMINAL]
        if len(ends) != 1 or chain[-1].to_status != job.status.value:
            found.append(f"{job.id} is {job.status.value} and ended as {ends}")
        said = [None, *(event.to_status for event in chain)]
        if [event.from_status for event in chain] != said[:-1]:
            found.append(f"{job.id} has a broken audit: {said}")
        claims = [event.attempt for event in chain if event.to_status == "running"]
        if claims != list(range(1, len(claims) + 1)) or job.attempt != len(claims):
            found.append(f"{job.id} was claimed as {claims}")
        if job.status is JobStatus.FAILED:
            found.append(f"{job.id} failed: {job.error}")
    return found


def _one_result(session: Session, told: dict[str, list[int]]) -> list[str]:
    """Check that a succeeded job has one result, of its last attempt, and others have none."""
    found = []
    results: dict[str, list[str]] = defaultdict(list)
    for image in session.scalars(select(ImageRow)):
        results[image.job_id].append(image.blob_key)
    for concept in session.scalars(
        select(ConceptRow).where(ConceptRow.status == ConceptStatus.READY)
    ):
        results[str(concept.job_id)].append(str(concept.blob_key))
    for job in session.scalars(select(JobRow)):
        name = "0.png" if job.kind is JobKind.GENERATE else "concept.safetensors"
        won = job.status is JobStatus.SUCCEEDED
        expected = [f"jobs/{job.id}/{job.attempt}/{name}"] if won else []
        if results[job.id] != expected:
            found.append(f"{job.id} should have the results {expected}, not {results[job.id]}")
        # A worker that dies after its success may not have noted it, so a missing note is no fault.
        if set(told.get(job.id, [])) - ({job.attempt} if won else set()):
            found.append(
                f"{job.id}: attempts {told[job.id]} were told of success, {job.attempt} ran"
            )
    return found


def _what_was_said(session: Session, orders: Sequence[Order]) -> list[str]:
    """Check that each key made one job, and that a job is cancelled if a client was told so."""
    found = []
    status_of = {job.id: job.status for job in session.scalars(select(JobRow))}
    for order in orders:
        if len(order.job_ids) != 1:
            found.append(f"{order.key} has the jobs {sorted(order.job_ids)}")
        for job_id in order.job_ids:
            if job_id not in status_of:
                found.append(f"{order.key} was accepted and is lost")
            elif order.cancelled and status_of[job_id] is not JobStatus.CANCELLED:
                found.append(f"{job_id} was cancelled and is {status_of[job_id].value}")
    if len(status_of) != len(orders):
        found.append(f"{len(orders)} orders made {len(status_of)} jobs")
    return found


def _no_orphan_rows(session: Session) -> list[str]:
    jobs = {job.id: job for job in session.scalars(select(JobRow))}
    concepts = {concept.id for concept in session.scalars(select(ConceptRow))}
    found = [
        f"the image {image.id} belongs to no job that succeeded"
        for image in session.scalars(select(ImageRow))
        if image.job_id not in jobs or jobs[image.job_id].status is not JobStatus.SUCCEEDED
    ]
    found += [
        f"the concept {concept.id} belongs to no job"
        for concept in session.scalars(select(ConceptRow))
        if concept.job_id not in jobs or concept.status is ConceptStatus.TRAINING
    ]
    found += [
        f"a picture of {picture.concept_id} belongs to no concept"
        for picture in session.scalars(select(PictureRow))
        if picture.concept_id not in concepts
    ]
    locations = Counter(key.location for key in session.scalars(select(IdempotencyKeyRow)))
    found += [
        f"{count} keys lead to {location}"
        for location, count in locations.items()
        if count != 1 or location.removeprefix("/jobs/") not in jobs
    ]
    return found


def _every_result_whole(session: Session, service: Service) -> list[str]:
    """Check that every blob that a row names exists and has the row's hash."""
    found = []
    for key, sha256 in _named_with_hashes(session):
        try:
            data = service.blobs.get(key)
        except BlobNotFound:
            found.append(f"the blob {key} is missing")
            continue
        if hashlib.sha256(data).hexdigest() != sha256:
            found.append(f"the blob {key} holds other bytes than its row says")
    return found


def _no_orphan_blobs(session: Session, service: Service) -> list[str]:
    named = {key for key, _ in _named_with_hashes(session)}
    named |= {last_preview_key(job_id) for job_id in session.scalars(select(JobRow.id))}
    there = {blob.key for blob in service.blobs.list()} - {DEPLOYMENT_KEY}
    return [f"the blob {key} belongs to no row" for key in sorted(there - named)]


def _named_with_hashes(session: Session) -> Iterator[tuple[str, str]]:
    for named in (ImageRow, ConceptRow, PictureRow):
        rows = session.execute(select(named.blob_key, named.sha256))
        yield from ((str(key), str(sha256)) for key, sha256 in rows if key is not None)


def _successes(journal: Path) -> dict[str, list[int]]:
    told: dict[str, list[int]] = defaultdict(list)
    for line in journal.read_text().splitlines() if journal.exists() else []:
        job_id, attempt = line.split()
        told[job_id].append(int(attempt))
    return told

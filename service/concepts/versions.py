"""A concept's current and previous file: training and judgement replace it, a revert swaps both.

The row names both files, so the collector keeps both files. The row's other facts about a file (for
example its hash) are swapped together with the file. While a training is queued or running, nothing
else changes a ready concept's file. So the standing that `standing` reads before a training's last
transaction still holds in that transaction.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from perfusion_core.concept import Concept
from perfusion_core.errors import ConceptFileError
from service import base_models
from service import idempotency as once
from service.blobs.store import BlobNotFound
from service.concepts import files, rows
from service.database.tables import ConceptRow, JobRow
from service.errors import Conflict, NotFound, problem
from service.idempotency import Answer, Idempotency
from service.jobs import transitions
from service.jobs.lease_types import Standing, TrainedConcept
from service.jobs.payloads import JudgePayload, Replace, TrainPayload
from service.statuses import ConceptStatus
from service.wiring import Service

# The row's facts about its file, apart from the keys, which have their own `previous_` columns.
_OF_THE_FILE = (
    "base_model_name",
    "base_model_fingerprint",
    "covariance_fingerprint",
    "size_bytes",
    "sha256",
    "mask_source",
    "training",
    "judgement",
)


def standing(service: Service, concept_id: str | None) -> Standing | None:
    """Return the standing of a ready concept's file; None if the file or its curve is missing."""
    with service.database.read() as session:
        concept = session.get(ConceptRow, concept_id) if concept_id is not None else None
        served = base_models.served(session)
    if concept is None or concept.status is not ConceptStatus.READY or concept.blob_key is None:
        return None
    try:
        core = Concept.from_bytes(service.blobs.get(concept.blob_key))
    except (BlobNotFound, ConceptFileError):
        return None
    return files.standing_of(core, served.calibration if served else None)


def take(
    session: Session, job: JobRow, *, trained: TrainedConcept, before: Standing | None
) -> list[str]:
    """Give a concept its newly trained file, in the transaction that ends the training's job.

    A ready concept keeps its file if the new file is no better; the job then has a warning. The
    caller removes the returned blobs after the commit.
    """
    concept = _locked(session, job.concept_id)
    if concept is None:  # deleted: its job is about to be cancelled
        return [trained.blob_key]
    dropped = []
    if concept.status is ConceptStatus.READY:
        replace = TrainPayload.read(job.payload).replace
        if not _replaces(concept, trained, before=before, replace=replace):
            kept = _kept(concept, before=before, new=trained.standing)
            job.warnings = [*(job.warnings or ()), kept]
            return [trained.blob_key]
        if concept.previous_blob_key is not None:
            dropped.append(concept.previous_blob_key)
        _remember(concept)
        concept.revision += 1
    concept.status = ConceptStatus.READY
    concept.blob_key, concept.job_id = trained.blob_key, job.id
    for name in _OF_THE_FILE:
        setattr(concept, name, getattr(trained, name))
    concept.ready_at = job.finished_at
    return dropped


def take_judged(session: Session, job: JobRow, *, judged: TrainedConcept) -> list[str]:
    """Give a concept the file with its new curve, in the transaction that ends the judgement.

    A concept whose file is no longer the one that was judged keeps it. The caller removes the
    returned blobs after the commit.
    """
    concept = _locked(session, job.concept_id)
    if concept is None or concept.sha256 != JudgePayload.read(job.payload).sha256:
        return [judged.blob_key]
    dropped = [] if concept.previous_blob_key is None else [concept.previous_blob_key]
    # The file before stays, because accepted generations still name it.
    _remember(concept)
    concept.revision += 1
    concept.blob_key = judged.blob_key
    for name in _OF_THE_FILE:
        setattr(concept, name, getattr(judged, name))
    concept.ready_at = job.finished_at
    return dropped


def revert(
    service: Service, owner_id: str, *, ref: str, idempotency: Idempotency | None = None
) -> Answer:
    """Swap a concept's file with the previous file; a second call swaps the files back.

    The answer is the concept.
    """
    with service.database.read() as session:
        _check_file_before(service, rows.find(session, owner_id, ref=ref))

    def act(connection: Connection, now: datetime) -> tuple[dict[str, Any], str]:
        session = Session(connection, expire_on_commit=False)
        concept = rows.lock(session, rows.find(session, owner_id, ref=ref))
        rows.check_not_in_training(session, concept)
        if concept.previous_blob_key is None:
            raise _nothing_before(concept)
        blob_key, job_id = concept.previous_blob_key, concept.previous_job_id
        told = dict(concept.previous or {})
        _remember(concept)
        concept.blob_key, concept.job_id = blob_key, job_id
        for name in _OF_THE_FILE:
            setattr(concept, name, told.get(name))
        concept.ready_at = datetime.fromisoformat(told["ready_at"])
        concept.revision += 1
        session.flush()
        return rows.view(concept).to_json(), f"/concepts/{concept.id}"

    return once.answer_once(
        service,
        owner_id,
        idempotency=idempotency,
        request_sha256=once.digest(["revert", ref]),
        act=act,
    )


def clear(service: Service, dropped: list[str]) -> None:
    """Remove the files that no row names after `take`; call this after the commit."""
    for key in dropped:
        transitions.remove_blobs(service, key=key)


def _replaces(
    concept: ConceptRow, trained: TrainedConcept, *, before: Standing | None, replace: Replace
) -> bool:
    here = (trained.base_model_fingerprint, trained.covariance_fingerprint)
    if replace == "always" or here != (
        concept.base_model_fingerprint,
        concept.covariance_fingerprint,
    ):
        return True
    new = trained.standing
    if new is None or before is None:
        return True
    if new.is_good != before.is_good:
        return new.is_good
    if new.measured_by != before.measured_by:
        return True
    return new.balance > before.balance


def _kept(concept: ConceptRow, *, before: Standing | None, new: Standing | None) -> dict[str, Any]:
    assert before is not None and new is not None
    detail = (
        f"The new training of <{concept.name}> is {new.quality} with a balance of "
        f"{new.balance:.2f}; the file that it has is {before.quality} with {before.balance:.2f}. "
        "So the concept stays as it was. Teach it again with other options, or with "
        'replace: "always".'
    )
    named = [{"id": concept.id, "name": concept.name}]
    return {**problem("kept-previous", detail), "concepts": named}


def _locked(session: Session, concept_id: str | None) -> ConceptRow | None:
    return session.scalar(
        select(ConceptRow)
        .where(ConceptRow.id == concept_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def _remember(concept: ConceptRow) -> None:
    """Record the concept's current file as its previous file."""
    assert concept.ready_at is not None
    concept.previous_blob_key, concept.previous_job_id = concept.blob_key, concept.job_id
    concept.previous = {
        **{name: getattr(concept, name) for name in _OF_THE_FILE},
        "ready_at": concept.ready_at.isoformat(),
    }


def _check_file_before(service: Service, concept: ConceptRow) -> None:
    """Raise NotFound if the previous file is gone, because the previous release collected it."""
    if concept.previous_blob_key is None:
        return  # reported later, under the lock
    try:
        service.blobs.get(concept.previous_blob_key)
    except BlobNotFound:
        raise NotFound(
            "concept-file-not-found", "The file before is gone; there is nothing to go back to."
        ) from None


def _nothing_before(concept: ConceptRow) -> Conflict:
    return Conflict(
        "no-file-before",
        f"The concept {concept.name} has no file before this one. There is one once a second "
        "training has replaced the first.",
    )

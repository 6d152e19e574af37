"""The rows of concepts, for several use cases: find, show, free a name, clean up.

While a concept is training or ready, no other concept of its owner can have its name. A failed or
cancelled concept stays visible until its owner deletes the concept, or creates or imports a concept
of the same name, which replaces the old concept. The job of a failed concept says what went wrong.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, Text, case, cast, func, or_, select
from sqlalchemy.orm import Session, defer, object_session, with_expression

from perfusion_core import siblings
from perfusion_core.concept import MAX_TRAINING_BYTES
from perfusion_core.evaluation.verdict import read_figures
from perfusion_core.evaluation.verdict import verdict as judge
from service import base_models
from service.blobs import keys
from service.concepts.views import BaseModelRef, ConceptView, VerdictView
from service.database.tables import ConceptRow, JobRow
from service.errors import Conflict, FieldProblem, NotFound
from service.ids import is_plausible
from service.jobs import transitions
from service.statuses import TERMINAL, ConceptStatus, JobKind, Queue
from service.wiring import Service

# Twice the limit, because stored JSON contains spaces that a file's JSON does not.
_MOST_LISTED = 2 * MAX_TRAINING_BYTES
_SHOWN_DIGITS = 8  # of a fingerprint in a sentence; the view contains all digits
_REPLACEABLE = (ConceptStatus.FAILED, ConceptStatus.CANCELLED)
_ADVICE = {
    ConceptStatus.TRAINING: "is still being trained. Wait until its job has succeeded",
    ConceptStatus.FAILED: "could not be trained. Look at its job, and train it again",
    ConceptStatus.CANCELLED: "was cancelled before it was trained. Train it again",
    ConceptStatus.READY: "has no file",
}


def find(session: Session, owner_id: str, *, ref: str) -> ConceptRow:
    """Return this owner's concept with the id or name `ref`, or raise NotFound."""
    concept = None
    if is_plausible(ref):
        concept = session.scalar(
            select(ConceptRow).where(
                ConceptRow.owner_id == owner_id, or_(ConceptRow.id == ref, ConceptRow.name == ref)
            )
        )
    if concept is None:
        raise _not_found()
    return concept


def lock(session: Session, concept: ConceptRow) -> ConceptRow:
    """Lock a concept's row until the commit and read the row anew; raise NotFound without a row."""
    locked = session.scalar(
        select(ConceptRow)
        .where(ConceptRow.id == concept.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if locked is None:
        raise _not_found()
    return locked


def check_not_in_training(session: Session, concept: ConceptRow) -> None:
    """Raise Conflict if a training of this concept is queued or running; lock the row first."""
    unfinished = session.scalar(
        select(JobRow.id)
        .where(
            JobRow.owner_id == concept.owner_id,
            JobRow.status.not_in(TERMINAL),
            JobRow.queue == Queue.TRAIN,
            JobRow.kind == JobKind.TRAIN,
            JobRow.concept_id == concept.id,
        )
        .limit(1)
    )
    if unfinished is not None:
        raise Conflict(
            "concept-in-training",
            f"The concept {concept.name} is being trained now. Wait until its job has ended, or "
            "cancel the job first.",
        )


def listed(statement: Select[ConceptRow]) -> Select[ConceptRow]:
    """Return the statement for a list, without training options that are too long.

    An earlier release imported concept files with megabytes of training options, and a page lists
    up to a hundred concepts.
    """
    size = func.length(cast(ConceptRow.training, Text))
    bounded = case((size <= _MOST_LISTED, ConceptRow.training))
    return statement.options(
        defer(ConceptRow.training),
        defer(ConceptRow.previous),
        with_expression(ConceptRow.listed_training, bounded),
    )


def free_name(session: Session, owner_id: str, *, name: str) -> list["Removed"]:
    """Make a concept name available; return the failed or cancelled concepts that were removed.

    The caller removes their files after the commit.
    """
    named = select(ConceptRow).where(ConceptRow.owner_id == owner_id, ConceptRow.name == name)
    concept = session.scalar(named)
    if concept is not None and concept.status in _REPLACEABLE:
        # Another request may be replacing or deleting this concept now. Its job is locked first, as
        # everywhere, because removing a concept also changes its job's row.
        session.execute(select(JobRow.id).where(JobRow.id == concept.job_id).with_for_update())
        fresh = named.with_for_update().execution_options(populate_existing=True)
        concept = session.scalar(fresh)
    if concept is None:
        return []
    if concept.status not in _REPLACEABLE:
        raise name_taken(concept)
    return [remove(session, concept)]


def name_taken(concept: ConceptRow) -> Conflict:
    """Return the error for a name that this concept has."""
    detail = (
        f"You have a concept named {concept.name} already (it is {concept.status.value}). "
        "Choose another name with the field `name`, or delete that concept first."
    )
    return Conflict("name-taken", detail, errors=[FieldProblem("/name", detail)])


@dataclass(frozen=True)
class Removed:
    """A concept whose row has just been deleted, and the ids of its trainings."""

    concept: ConceptRow
    job_ids: tuple[str, ...]


def remove(session: Session, concept: ConceptRow) -> Removed:
    """Delete a concept's locked row; the caller removes its files after the commit."""
    job_ids = session.scalars(
        select(JobRow.id).where(
            JobRow.owner_id == concept.owner_id, JobRow.concept_id == concept.id
        )
    ).all()
    session.delete(concept)
    session.flush()
    return Removed(concept, tuple(job_ids))


def remove_files(service: Service, removed: Iterable[Removed]) -> None:
    """Remove the pictures, training states and files of concepts whose rows are deleted."""
    for gone in removed:
        transitions.remove_blobs(service, prefix=keys.pictures_prefix(gone.concept.id))
        transitions.remove_blobs(service, prefix=keys.exports_prefix(gone.concept.id))
        for job_id in gone.job_ids:
            transitions.remove_blobs(service, prefix=keys.job_prefix(job_id))
        for key in (gone.concept.blob_key, gone.concept.previous_blob_key):
            if key is not None:
                transitions.remove_blobs(service, key=key)


def named_hashes(service: Service, concept_ids: Iterable[str]) -> dict[str, set[str]]:
    """Return the hashes of the files that each of these concepts names, without deleted concepts.

    A worker calls this when a job starts, because the owner may have deleted a concept that the
    worker still has in memory. The previous file of a concept is included, because a request keeps
    the file that its concept had when the request was accepted.
    """
    before = ConceptRow.previous["sha256"].as_string()
    with service.database.read() as session:
        rows = session.execute(
            select(ConceptRow.id, ConceptRow.sha256, before).where(
                ConceptRow.id.in_(list(concept_ids))
            )
        )
        return {row[0]: {sha256 for sha256 in row[1:] if sha256 is not None} for row in rows}


def not_ready(name: str, status: ConceptStatus) -> Conflict:
    """Return the error for using a concept that is not ready."""
    return Conflict("concept-not-ready", f"The concept {name} {_ADVICE[status]}.")


def _not_found() -> NotFound:
    return NotFound("concept-not-found", "There is no concept of this id or name.")


def list_view(concept: ConceptRow) -> ConceptView:
    """Return the view of a concept that `listed` has loaded."""
    return _view(concept, training=concept.listed_training or {})


def view(concept: ConceptRow) -> ConceptView:
    """Return the view of a concept."""
    return _view(concept, training=concept.training)


def _view(concept: ConceptRow, *, training: dict[str, Any]) -> ConceptView:
    base_model = None
    if concept.base_model_fingerprint is not None:
        base_model = BaseModelRef(
            name=concept.base_model_name or "", fingerprint=concept.base_model_fingerprint
        )
    reason = _why_not(concept)
    judgement = concept.judgement
    return ConceptView(
        id=concept.id,
        name=concept.name,
        placeholder=f"<{concept.name}>",
        superclass=concept.superclass,
        description=concept.description,
        status=concept.status,
        usable=reason is None,
        reason=reason,
        base_model=base_model,
        covariance_fingerprint=concept.covariance_fingerprint,
        bytes=concept.size_bytes,
        sha256=concept.sha256,
        mask_source=concept.mask_source,
        training=training,
        created_at=concept.created_at,
        ready_at=concept.ready_at,
        job_id=concept.job_id,
        revision=concept.revision,
        has_file_before=concept.previous_blob_key is not None,
        verdict=_verdict(concept),
        recommended_strength=judgement["recommended_strength"] if judgement else None,
        warning=siblings.warning(training, is_measured=judgement is not None),
    )


def _verdict(concept: ConceptRow) -> VerdictView | None:
    """Return the verdict on a concept's figures by the served calibration; None without figures.

    A row of an earlier release contains a verdict, but not the figures behind it.
    """
    if concept.judgement is None:
        return None
    session = object_session(concept)
    served = None if session is None else base_models.served(session)
    judged = judge(
        read_figures(concept.judgement.get("figures")),
        superclass=concept.superclass,
        base_model=concept.base_model_fingerprint or "",
        calibration=None if served is None else served.calibration,
    )
    return VerdictView.of(judged)


def _why_not(concept: ConceptRow) -> str | None:
    """Return why a prompt cannot use a concept now, and what to do; None for a usable concept."""
    if concept.status is not ConceptStatus.READY:
        return f"It {_ADVICE[concept.status]}."
    session = object_session(concept)
    served = None if session is None else base_models.served(session)
    if served is None:  # no worker has registered a base model yet
        return None
    if concept.base_model_fingerprint != served.fingerprint:
        own = f"{concept.base_model_name}, {_short(concept.base_model_fingerprint)}"
        here = f"{served.name}, {_short(served.fingerprint)}"
        what = "another base model"
    elif concept.covariance_fingerprint != served.covariance_fingerprint:
        own = _short(concept.covariance_fingerprint)
        here = _short(served.covariance_fingerprint)
        what = "another covariance of this base model"
    else:
        return None
    return (
        f"It was taught on {what} ({own}) than the one that is served ({here}). "
        "Train it again here, or serve that one."
    )


def _short(fingerprint: str | None) -> str:
    return (fingerprint or "unknown")[:_SHOWN_DIGITS]

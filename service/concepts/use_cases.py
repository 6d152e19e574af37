"""Concepts: created from pictures by a training job, imported from a file, listed, deleted."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from service import idempotency as once
from service import quota
from service.blobs import keys
from service.blobs.store import BlobNotFound, StoredFile
from service.concepts import rows, trainings
from service.concepts.views import ConceptView
from service.database.tables import ConceptRow, JobRow
from service.errors import Invalid, NotFound, Unavailable
from service.idempotency import Answer, Idempotency
from service.ids import new_id
from service.jobs import transitions
from service.jobs.payloads import DEFAULT_REPLACE
from service.pages import DEFAULT_LIMIT, Page, read_page
from service.pictures import rows as picture_rows
from service.pictures.crops import Crop
from service.pictures.rows import StoredPicture
from service.pictures.uploads import UploadedPicture, wrong_counts
from service.statuses import TERMINAL, ConceptStatus, Queue
from service.validation import check_name, check_superclass
from service.webhooks import requests as webhooks
from service.webhooks.requests import Webhook
from service.wiring import Service


def create(
    service: Service,
    owner_id: str,
    *,
    name: str,
    superclass: str,
    pictures: Iterable[UploadedPicture],
    training: dict[str, Any],
    crops: Sequence[Crop | None] = (),
    webhook: Webhook | None = None,
    idempotency: Idempotency | None = None,
) -> Answer:
    """Accept pictures and queue the training of a concept; the answer is {"concept", "job"}.

    `crops`, if there are any, has one item for each picture, in pixels of the uploaded picture.

    Each picture is stored before the next one is decoded, so that only one picture is in memory at
    a time.
    """
    check_name(name)
    superclass = check_superclass(superclass)
    planned = trainings.plan(service, training, pointer="/training")
    webhooks.check(service, webhook)
    concept_id, job_id = new_id("concept"), new_id("job")
    replaced: list[rows.Removed] = []
    stored: list[StoredPicture] = []
    no_room = quota.full(service, owner_id)

    def act(connection: Connection, now: datetime) -> tuple[dict[str, Any], str]:
        if no_room is not None:
            raise no_room
        session = Session(connection, expire_on_commit=False)
        replaced[:] = rows.free_name(session, owner_id, name=name)
        concept = ConceptRow(
            id=concept_id,
            owner_id=owner_id,
            name=name,
            superclass=superclass,
            status=ConceptStatus.TRAINING,
            created_at=now,
            job_id=job_id,
        )
        planned.note(concept)
        session.add(concept)
        session.flush()
        kept = [picture_rows.new_row(concept_id, n, picture) for n, picture in enumerate(stored)]
        session.add_all(kept)
        session.flush()
        return trainings.queue(
            connection,
            service,
            concept=concept,
            pictures=kept,
            job_id=job_id,
            plan=planned,
            replace=DEFAULT_REPLACE,
            webhook=webhook,
            now=now,
        )

    try:
        for picture in pictures:
            stored.append(
                picture_rows.put_of_concept(service, concept_id, len(stored), picture, asked=crops)
            )
        if wrong := wrong_counts(len(stored), crops=len(crops)):
            raise Invalid(wrong)
        hashes = [[p.sha256, p.mask_sha256] for p in stored]
        # Without crops and webhook the digest is that of earlier releases, whose keys are still
        # remembered.
        added = [*([crops] if any(crops) else []), *([webhook.model_dump()] if webhook else [])]
        request_sha256 = once.digest(["concept", name, superclass, training, hashes, *added])
    except BaseException:
        transitions.remove_blobs(service, prefix=keys.pictures_prefix(concept_id))
        raise
    try:
        answer = once.answer_once(
            service, owner_id, idempotency=idempotency, request_sha256=request_sha256, act=act
        )
    except Unavailable:
        # The commit may have succeeded although its answer was lost; then a concept uses the
        # pictures. If the commit failed, the collector removes them.
        raise
    except BaseException:
        transitions.remove_blobs(service, prefix=keys.pictures_prefix(concept_id))
        raise
    if answer.replayed:
        transitions.remove_blobs(service, prefix=keys.pictures_prefix(concept_id))
        return answer
    rows.remove_files(service, replaced)
    service.notifier.notify_soon(job_id, Queue.TRAIN)
    return answer


def get(service: Service, owner_id: str, *, ref: str) -> ConceptView:
    """Return a concept by its id or name."""
    with service.database.read() as session:
        return rows.view(rows.find(session, owner_id, ref=ref))


def list_page(
    service: Service,
    owner_id: str,
    *,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
    status: ConceptStatus | None = None,
) -> Page[ConceptView]:
    """Return one page of this owner's concepts, newest first."""
    statement = rows.listed(select(ConceptRow).where(ConceptRow.owner_id == owner_id))
    if status is not None:
        statement = statement.where(ConceptRow.status == status)
    with service.database.read() as session:
        return read_page(
            session,
            statement,
            created_at=ConceptRow.created_at,
            identity=ConceptRow.id,
            limit=limit,
            cursor=cursor,
            to_views=lambda page: [rows.list_view(row) for row in page],
        )


def delete(service: Service, owner_id: str, *, ref: str) -> None:
    """Delete a concept with its row, pictures and files.

    Cancel the concept's training if the training still runs.

    Images already generated with the concept stay. A queued generation that needs the concept will
    fail.
    """
    with service.database.write() as session:
        concept = rows.find(session, owner_id, ref=ref)
        ended = transitions.request_cancel(
            session, now=service.database.now(session), where=(JobRow.concept_id == concept.id,)
        )
        # The concept is locked after its job, as at the end of a training. The training may have
        # ended just before its cancellation and named a file; another request may have deleted the
        # concept.
        concept = rows.lock(session, concept)
        accepted_meanwhile = session.scalars(
            select(JobRow.id).where(
                JobRow.concept_id == concept.id,
                JobRow.status.not_in(TERMINAL),
                JobRow.cancel_requested_at.is_(None),
            )
        ).all()
        removed = rows.remove(session, concept)
    if accepted_meanwhile:
        with service.database.write() as session:
            now = service.database.now(session)
            where = (JobRow.id.in_(accepted_meanwhile),)
            ended += transitions.request_cancel(session, now=now, where=where)
    transitions.clear_after(service, ended)
    rows.remove_files(service, [removed])


def read_file(service: Service, owner_id: str, *, ref: str) -> StoredFile:
    """Return a ready concept's safetensors file."""
    with service.database.read() as session:
        concept = rows.find(session, owner_id, ref=ref)
    if concept.status is not ConceptStatus.READY or concept.blob_key is None:
        raise rows.not_ready(concept.name, concept.status)
    try:
        data = service.blobs.get(concept.blob_key)
    except BlobNotFound:
        raise NotFound("concept-file-not-found", "The file of this concept is gone.") from None
    return StoredFile(data=data, sha256=concept.sha256 or "", name=concept.name)

"""Accept trainings: check options against the base model, add a row, queue a job.

A concept's first training gets its pictures from the request (use_cases.py); later trainings use
the concept's stored pictures. During a training a ready concept stays ready, and keeps its file
until the new file replaces the old file (versions.py).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from perfusion_core.config import TrainConfig
from service import base_models, options, quota
from service import idempotency as once
from service.base_models import RegisteredBaseModel
from service.concepts import rows
from service.concepts.views import ConceptAccepted
from service.database.tables import ConceptRow, PictureRow
from service.errors import Conflict
from service.idempotency import Answer, Idempotency
from service.ids import new_id
from service.jobs import job_order, transitions
from service.jobs import use_cases as jobs
from service.jobs.payloads import DEFAULT_REPLACE, Replace, TrainingPicture, TrainPayload
from service.statuses import ConceptStatus, JobKind, Queue
from service.webhooks import outbox
from service.webhooks import requests as webhooks
from service.webhooks.requests import Webhook
from service.wiring import Service


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The requested training, checked against the base model that is served now."""

    base_model: RegisteredBaseModel | None
    config: TrainConfig
    options: dict[str, Any]  # the request's, over the registered base model's defaults

    def note(self, concept: ConceptRow) -> None:
        """Write the options of the concept's first training into its row."""
        base_model = self.base_model
        concept.base_model_name = base_model.name if base_model else None
        concept.base_model_fingerprint = base_model.fingerprint if base_model else None
        concept.covariance_fingerprint = base_model.covariance_fingerprint if base_model else None
        concept.training = asdict(self.config)


def plan(service: Service, training: dict[str, Any], *, pointer: str) -> Plan:
    """Check training options; raise Invalid with `pointer` before each wrong option's name."""
    base_model = base_models.current_base_model(service)
    whole = options.whole_numbers(training)
    defaults = options.known_defaults(TrainConfig, base_models.defaults(base_model, of="train"))
    config = options.check(
        TrainConfig,
        whole,
        defaults=defaults,
        resolution=base_models.resolution(base_model),
        pointer=pointer,
    )
    return Plan(base_model=base_model, config=config, options=defaults | whole)


def queue(
    connection: Connection,
    service: Service,
    *,
    concept: ConceptRow,
    pictures: Sequence[PictureRow],
    job_id: str,
    plan: Plan,
    replace: Replace,
    webhook: Webhook | None,
    now: datetime,
) -> tuple[dict[str, Any], str]:
    """Queue a training of a concept; return the answer {"concept", "job"} and the job's address."""
    payload = TrainPayload(
        name=concept.name,
        superclass=concept.superclass,
        pictures=tuple(
            TrainingPicture.model_validate(
                {"blob_key": row.blob_key, "mask_key": row.mask_key, "crop": row.crop}
            )
            for row in pictures
        ),
        training=plan.options,
        replace=replace,
    )
    job = transitions.new_job(
        service,
        concept.owner_id,
        job_id=job_id,
        kind=JobKind.TRAIN,
        payload=payload.to_row(),
        total_steps=plan.config.max_train_steps,
        concept_id=concept.id,
        now=now,
    )
    most_waiting = service.settings.max_queued_jobs_per_owner
    position = job_order.queue_position(
        connection, concept.owner_id, queue=Queue.TRAIN, most_waiting=most_waiting
    )
    queued_at = transitions.enqueue(connection, service, job=job, position=position)
    outbox.add(connection, service, concept.owner_id, job_id=job_id, webhook=webhook, now=now)
    job_view = jobs.accepted(job, queue_position=queued_at)
    accepted = ConceptAccepted(concept=rows.view(concept), job=job_view)
    return accepted.to_json(), f"/jobs/{job_id}"


def train_again(
    service: Service,
    owner_id: str,
    *,
    ref: str,
    training: dict[str, Any],
    replace: Replace = DEFAULT_REPLACE,
    webhook: Webhook | None = None,
    idempotency: Idempotency | None = None,
) -> Answer:
    """Queue another training of a concept on its own pictures; the answer is {"concept", "job"}.

    A ready concept does not change until the new file replaces its file. A failed or cancelled
    concept is trained as if for the first time.
    """
    with service.database.read() as session:
        rows.find(session, owner_id, ref=ref)  # raise NotFound before wrong options are reported
    planned = plan(service, training, pointer="")
    webhooks.check(service, webhook)
    no_room = quota.full(service, owner_id)
    job_id = new_id("job")

    def act(connection: Connection, now: datetime) -> tuple[dict[str, Any], str]:
        if no_room is not None:
            raise no_room
        session = Session(connection, expire_on_commit=False)
        concept = rows.lock(session, rows.find(session, owner_id, ref=ref))
        rows.check_not_in_training(session, concept)
        pictures = session.scalars(
            select(PictureRow)
            .where(PictureRow.concept_id == concept.id)
            .order_by(PictureRow.position)
        ).all()
        if not pictures:
            raise Conflict(
                "no-pictures",
                f"The concept {concept.name} was imported, and its pictures did not come with its "
                "file. Teach it under another name, with pictures.",
            )
        if concept.status is not ConceptStatus.READY:
            concept.status, concept.job_id = ConceptStatus.TRAINING, job_id
            planned.note(concept)
            session.flush()
        return queue(
            connection,
            service,
            concept=concept,
            pictures=pictures,
            job_id=job_id,
            plan=planned,
            replace=replace,
            webhook=webhook,
            now=now,
        )

    answer = once.answer_once(
        service,
        owner_id,
        idempotency=idempotency,
        request_sha256=once.digest(
            ["train", ref, training, replace, *([webhook.model_dump()] if webhook else [])]
        ),
        act=act,
    )
    if not answer.replayed:
        service.notifier.notify_soon(job_id, Queue.TRAIN)
    return answer

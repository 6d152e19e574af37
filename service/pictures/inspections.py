"""Inspections: whether pictures are good to train on, found out by a worker before a training."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from service import idempotency as once
from service import quota
from service.blobs import keys
from service.errors import Invalid, Unavailable
from service.idempotency import Answer, Idempotency
from service.ids import new_id
from service.jobs import job_order, transitions
from service.jobs import use_cases as jobs
from service.jobs.payloads import InspectPayload, PictureToInspect
from service.jobs.views import JobAnswer
from service.pictures import rows
from service.pictures.rows import StoredPicture
from service.pictures.uploads import UploadedPicture, wrong_counts
from service.statuses import JobKind
from service.validation import check_superclass
from service.wiring import Service


def request(
    service: Service,
    owner_id: str,
    *,
    pictures: Iterable[UploadedPicture],
    superclass: str | None,
    idempotency: Idempotency | None = None,
) -> Answer:
    """Accept pictures and queue their inspection; the answer is {"job"}.

    Without a superclass, no segmenter can look for the object. As in `concepts.create`, only one
    picture is in memory at a time. The pictures are deleted when the job ends, and the job is
    deleted an hour later.
    """
    if superclass is not None:
        superclass = check_superclass(superclass)
    job_id = new_id("job")
    stored: list[StoredPicture] = []
    no_room = quota.full(service, owner_id)

    def act(connection: Connection, now: datetime) -> tuple[dict[str, Any], str]:
        if no_room is not None:
            raise no_room
        return _queue(
            connection,
            service,
            owner_id,
            job_id=job_id,
            payload=_payload(stored, superclass),
            now=now,
        )

    try:
        for number, picture in enumerate(pictures):
            stored.append(
                rows.put(
                    service,
                    picture,
                    blob_key=keys.inspected_picture_key(job_id, number),
                    mask_key=keys.inspected_mask_key(job_id, number),
                )
            )
        if wrong := wrong_counts(len(stored)):
            raise Invalid(wrong)
        hashes = [[picture.sha256, picture.mask_sha256] for picture in stored]
        answer = once.answer_once(
            service,
            owner_id,
            idempotency=idempotency,
            request_sha256=once.digest(["inspection", superclass, hashes]),
            act=act,
        )
    except Unavailable:
        # The commit may have succeeded although its answer was lost; then the job reads the
        # pictures. Otherwise the collector removes them.
        raise
    except BaseException:
        transitions.remove_blobs(service, prefix=keys.job_prefix(job_id))
        raise
    if answer.replayed:
        transitions.remove_blobs(service, prefix=keys.job_prefix(job_id))
    else:
        service.notifier.notify_soon(job_id, JobKind.INSPECT.queue)
    return answer


def _payload(stored: Iterable[StoredPicture], superclass: str | None) -> InspectPayload:
    pictures = list(stored)
    return InspectPayload(
        pictures=tuple(
            PictureToInspect(
                blob_key=picture.blob_key,
                mask_key=picture.mask_key,
                uploaded_size=picture.uploaded_size,
            )
            for picture in pictures
        ),
        superclass=superclass,
        size_bytes=sum(picture.size_bytes for picture in pictures),
    )


def _queue(
    connection: Connection,
    service: Service,
    owner_id: str,
    *,
    job_id: str,
    payload: InspectPayload,
    now: datetime,
) -> tuple[dict[str, Any], str]:
    job = transitions.new_job(
        service,
        owner_id,
        job_id=job_id,
        kind=JobKind.INSPECT,
        payload=payload.to_row(),
        total_steps=len(payload.pictures),
        concept_id=None,
        now=now,
    )
    most_waiting = service.settings.max_queued_jobs_per_owner
    position = job_order.queue_position(
        connection, owner_id, queue=job.queue, most_waiting=most_waiting
    )
    queued_at = transitions.enqueue(connection, service, job=job, position=position)
    return JobAnswer(job=jobs.accepted(job, queue_position=queued_at)).to_json(), f"/jobs/{job_id}"

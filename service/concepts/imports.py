"""Import a concept file: of the served base model, or of one of its siblings.

A file of a sibling is adapted: it is usable at once with a warning, and a job of kind `judge`
measures its curve on the served base model.
"""

import hashlib
from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from perfusion_core import siblings
from perfusion_core.concept import Concept
from perfusion_core.evaluation.curve import STRENGTHS
from service import base_models, quota
from service.base_models import RegisteredBaseModel
from service.blobs import keys
from service.concepts import files, rows
from service.concepts.views import ConceptAccepted, ConceptView
from service.database.tables import ConceptRow, JobRow
from service.errors import Unavailable, problem
from service.ids import new_id
from service.jobs import job_order, transitions
from service.jobs import use_cases as jobs
from service.jobs.payloads import JudgePayload
from service.jobs.views import JobView
from service.statuses import ConceptStatus, JobKind
from service.validation import check_name
from service.wiring import Service

JUDGE_STEPS = len(STRENGTHS) + 1
"""The steps of a judgement: the points of a curve, and its proof."""


def import_file(
    service: Service, owner_id: str, *, data: bytes, name: str | None = None, adapt: bool = False
) -> ConceptView | ConceptAccepted:
    """Import a concept file, or the one in a zip to share, as ready at once.

    Its name is its own, or `name`.

    The concept is written to a new file. Only the new file is stored, so that the stored file
    contains only the concept. With `adapt` the file may also be of a sibling base model; the
    answer is then {"concept", "job"}, and the job measures the concept here.
    """
    quota.check_room(service, owner_id)
    data = files.unpack(data)
    core = files.read_concept(data)
    if name is not None:
        core = core.renamed(check_name(name))
    base_model = base_models.current_base_model(service)
    if base_model is None:
        raise Unavailable(
            "no-base-model",
            "No worker has loaded a base model yet, so the file cannot be compared with it. "
            "Try again in a moment.",
            retry_after_seconds=10,
        )
    read, core = core, files.fitting(core, base_model, adapt=adapt)
    is_adapted = not siblings.fits(read, base_models.identity(base_model))
    concept_id, job_id = new_id("concept"), new_id("job")
    blob_key = keys.imported_concept_key(concept_id)
    stored = files.write_anew(service, core, size_bytes=len(data))
    replaced: list[rows.Removed] = []

    def act(connection: Connection, now: datetime) -> ConceptView | ConceptAccepted:
        session = Session(connection, expire_on_commit=False)
        replaced[:] = rows.free_name(session, owner_id, name=core.name)
        concept = _row(core, base_model, concept_id=concept_id, owner_id=owner_id, now=now)
        concept.blob_key, concept.size_bytes = blob_key, len(stored)
        concept.sha256 = hashlib.sha256(stored).hexdigest()
        session.add(concept)
        session.flush()
        view = rows.view(concept)
        if not is_adapted:
            return view
        job = _queue_judgement(connection, service, concept=concept, job_id=job_id, now=now)
        return ConceptAccepted(concept=view, job=job)

    try:
        service.blobs.put(blob_key, stored)
        imported = service.database.run(act)
    except Unavailable:
        raise  # as in `use_cases.create`: the commit may have succeeded
    except BaseException:
        transitions.remove_blobs(service, key=blob_key)
        raise
    rows.remove_files(service, replaced)
    if is_adapted:
        service.notifier.notify_soon(job_id, JobKind.JUDGE.queue)
    return imported


def _row(
    core: Concept, base_model: RegisteredBaseModel, *, concept_id: str, owner_id: str, now: datetime
) -> ConceptRow:
    return ConceptRow(
        id=concept_id,
        owner_id=owner_id,
        name=core.name,
        superclass=core.superclass,
        status=ConceptStatus.READY,
        base_model_name=core.base_model_name,
        base_model_fingerprint=core.base_model_fingerprint,
        covariance_fingerprint=core.covariance_fingerprint,
        mask_source=core.mask_source,
        training=dict(core.training),
        judgement=files.judgement_of(core, base_models.calibration(base_model)),
        created_at=now,
        ready_at=now,
    )


def _queue_judgement(
    connection: Connection, service: Service, *, concept: ConceptRow, job_id: str, now: datetime
) -> JobView:
    assert concept.blob_key is not None and concept.sha256 is not None
    payload = JudgePayload(name=concept.name, blob_key=concept.blob_key, sha256=concept.sha256)
    job: JobRow = transitions.new_job(
        service,
        concept.owner_id,
        job_id=job_id,
        kind=JobKind.JUDGE,
        payload=payload.to_row(),
        total_steps=JUDGE_STEPS,
        concept_id=concept.id,
        now=now,
    )
    # A concept that is back on the base model of its training needs no warning.
    if (detail := siblings.warning(concept.training, is_measured=False)) is not None:
        named = [{"id": concept.id, "name": concept.name}]
        job.warnings = [{**problem("adapted", detail), "concepts": named}]
    position = job_order.queue_position(
        connection,
        concept.owner_id,
        queue=JobKind.JUDGE.queue,
        most_waiting=service.settings.max_queued_jobs_per_owner,
    )
    queued_at = transitions.enqueue(connection, service, job=job, position=position)
    return jobs.accepted(job, queue_position=queued_at)

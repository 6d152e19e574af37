"""Requests for images: check everything that can be checked before a job is queued.

When a request is accepted, the service resolves the concepts to their current files, resolves the
strengths to beta and tau, and draws seeds. So a retry after a crash repeats exactly the same work.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, bindparam, select, true

from perfusion_core.config import MAX_SEED, GenerateConfig, without_auto
from perfusion_core.text.prompt import Prompt
from service import base_models, options, quota
from service import idempotency as once
from service.database.tables import ConceptRow
from service.generations import concept_uses, edits, prompts, sweeps
from service.generations.concept_uses import Known
from service.generations.requests import ConceptChoice, GenerateRequest
from service.generations.strengths import Gate, explicit_gates
from service.generations.unknown_names import UnknownNames, unknown_placeholders
from service.idempotency import Answer, Idempotency
from service.ids import new_id
from service.jobs import job_order, transitions
from service.jobs import use_cases as jobs
from service.jobs.job_order import QueuePosition
from service.jobs.payloads import GeneratePayload, PromptedConcept
from service.jobs.views import JobAnswer
from service.options import EditOptions, GenerationOptions
from service.pictures.edit_uploads import EditUpload
from service.statuses import JobKind, Queue
from service.validation import check_prompt
from service.webhooks import outbox
from service.webhooks import requests as webhooks
from service.wiring import Service

_QUEUE_POSITION = job_order.QUEUE_POSITION.subquery("queue_position")
_SERVED = base_models.CURRENT.subquery("served")
_NAMED = and_(
    ConceptRow.owner_id == bindparam("owner"),
    ConceptRow.name.in_(bindparam("names", expanding=True)),
)
# One statement with all that the database knows about a request, because every request waits for
# this query: a row for each concept in the prompt, or one row without a concept. Built once at
# import, for the same reason.
_KNOWN = select(
    _QUEUE_POSITION,
    _SERVED.c.fingerprint,
    _SERVED.c.covariance_fingerprint,
    _SERVED.c.info["defaults"]["generate"].label("defaults"),
    _SERVED.c.info["resolution"].as_integer().label("resolution"),
    _SERVED.c.info["segmenter"].as_string().label("segmenter"),
    ConceptRow.id,
    ConceptRow.name,
    ConceptRow.status,
    ConceptRow.sha256,
    ConceptRow.blob_key,
    ConceptRow.judgement["recommended_strength"].as_float().label("recommended_strength"),
    ConceptRow.base_model_fingerprint.label("own_fingerprint"),
    ConceptRow.covariance_fingerprint.label("own_covariance_fingerprint"),
).select_from(_QUEUE_POSITION.outerjoin(_SERVED, true()).outerjoin(ConceptRow, _NAMED))
# Fields that the first release with idempotency keys did not have.
_LATER_FIELDS = {"attention_maps", "gates", "guidance_rescale", "sweep", "webhook"}
_OF_EDITS = {"image", "mask", *EditOptions.model_fields}
_NOT_OPTIONS = {*GenerateRequest.model_fields} - {*GenerationOptions.model_fields}


def request(
    service: Service,
    owner_id: str,
    *,
    body: GenerateRequest,
    upload: EditUpload | None = None,
    idempotency: Idempotency | None = None,
) -> Answer:
    """Accept a request for images and queue it; the answer is {"job"}.

    `upload` has the files of an edit; they are stored before the job is added.
    """
    cells = sweeps.cells_of(body)
    asked = sweeps.in_each(cells, lambda cell: _ask(cell.body))
    webhooks.check(service, body.webhook)
    edited = sweeps.in_each(
        cells,
        lambda cell: edits.check(cell.body, upload, concepts=asked[cell.index].prompt.names),
    )[0]
    described = ["generate", _identity(body), *edits.identity(edited)]
    request_sha256 = once.digest(described) if idempotency else ""
    drawn = secrets.randbelow(MAX_SEED + 1)
    job_id = new_id("job")
    no_room = quota.full(service, owner_id)

    def act(connection: Connection, now: datetime) -> tuple[dict[str, Any], str]:
        if no_room is not None:
            raise no_room
        named = {
            "owner": owner_id,
            "names": list({name: None for each in asked for name in each.prompt.names}),
            "queue": Queue.GENERATE,
            "most_waiting": service.settings.max_queued_jobs_per_owner,
        }
        known = connection.execute(_KNOWN, named).all()
        resolved = sweeps.in_each(
            cells,
            lambda cell: _resolve(connection, owner_id, asked=asked[cell.index], known=known),
        )
        first = resolved[0]
        used: dict[str, PromptedConcept] = {}
        for each in resolved:
            for concept in each.concepts:
                used.setdefault(concept.id, concept)
        payload = GeneratePayload(
            prompt=first.prompt,
            concepts=tuple(used.values()),
            config={
                **first.options,
                "seed": first.config.seed if first.config.seed is not None else drawn,
            },
            attention_maps=body.attention_maps,
            edit=None
            if edited is None
            else edits.payload(
                connection,
                owner_id,
                job_id=job_id,
                body=cells[0].body,
                upload=edited,
                served=known[0],
            ),
            sweep=sweeps.payload(
                body.sweep,
                cells=cells,
                prompts=[each.prompt for each in resolved],
                concepts=[each.concepts for each in resolved],
            ),
        )
        job = transitions.new_job(
            service,
            owner_id,
            job_id=job_id,
            kind=JobKind.GENERATE,
            payload=payload.to_row(),
            total_steps=max(each.config.num_inference_steps for each in resolved),
            concept_id=None,
            now=now,
        )
        position = QueuePosition(*known[0][:3])
        queued_at = transitions.enqueue(connection, service, job=job, position=position)
        outbox.add(connection, service, owner_id, job_id=job_id, webhook=body.webhook, now=now)
        accepted = JobAnswer(job=jobs.accepted(job, queue_position=queued_at))
        return accepted.to_json(), f"/jobs/{job_id}"

    try:
        with edits.stored(service, edited, job_id=job_id):
            answer = once.answer_once(
                service, owner_id, idempotency=idempotency, request_sha256=request_sha256, act=act
            )
    except UnknownNames as error:  # the search for near names holds no transaction open
        raise unknown_placeholders(service, owner_id, unknown=error.places) from None
    if answer.replayed:
        edits.remove(service, edited, job_id=job_id)
    else:
        service.notifier.notify_soon(job_id, Queue.GENERATE)
    return answer


def _identity(body: GenerateRequest) -> dict[str, Any]:
    """Return the fields by which two requests are equal, for idempotency keys.

    Fields that a later release added are left out if the request does not set these fields. So a
    key that the previous release stored still matches the key's request.
    """
    given = body.model_dump(exclude_unset=True)
    fields = [name for name in GenerateRequest.model_fields if name not in _OF_EDITS - {*given}]
    identity = {name: given.get(name) for name in fields}
    identity["concepts"] = [choice.model_dump() for choice in body.concepts]
    return {name: value for name, value in identity.items() if value or name not in _LATER_FIELDS}


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What a request asks for, as far as it can be checked without the database."""

    prompt: Prompt
    options: dict[str, Any]  # that the request sets
    choices: tuple[ConceptChoice, ...]
    gates: list[Gate | None]  # of each choice


@dataclass(frozen=True, kw_only=True)
class _Resolved:
    """A request with its concepts' files and gates, and its options over the base model's own."""

    prompt: str
    concepts: tuple[PromptedConcept, ...]
    options: dict[str, Any]
    config: GenerateConfig


def _ask(body: GenerateRequest) -> _Asked:
    """Return what a request asks for; a null option means the base model's default."""
    prompt = prompts.parse(check_prompt(body.prompt, pointer="/prompt"))
    given = body.model_dump(exclude_unset=True, exclude=_NOT_OPTIONS)
    asked = {name: value for name, value in given.items() if value is not None}
    if "negative_prompt" in asked:
        asked["negative_prompt"] = prompts.negative_prompt(asked["negative_prompt"], prompt=prompt)
    gates = explicit_gates(body.concepts)
    return _Asked(prompt=prompt, options=asked, choices=body.concepts, gates=gates)


def _resolve(
    connection: Connection, owner_id: str, *, asked: _Asked, known: Sequence[Known]
) -> _Resolved:
    defaults = options.known_defaults(GenerateConfig, known[0].defaults or {})
    config = options.check(
        GenerateConfig, asked.options, defaults=defaults, resolution=known[0].resolution, pointer=""
    )
    concepts = concept_uses.resolve(prompt=asked.prompt, known=known)
    explicit = concept_uses.attribute(
        connection, owner_id, choices=asked.choices, gates=asked.gates, among=concepts
    )
    concept_uses.check_one_base_model(concepts)
    uses = (
        concept_uses.use(
            concept, explicit.get(concept.id), prompt=asked.prompt, locking=config.locking
        )
        for concept in concepts
    )
    return _Resolved(
        prompt=asked.prompt.text,
        concepts=tuple(uses),
        options={**defaults, **without_auto(asked.options)},
        config=config,
    )

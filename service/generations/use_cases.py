"""Requests for images: check everything that can be checked before a job is queued.

When a request is accepted, the service resolves the concepts to their current files, resolves the
strengths to beta and tau, and draws seeds. So a retry after a crash repeats exactly the same work.
"""

import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, or_, select, true

from perfusion_core.config import MAX_SEED, GenerateConfig, Locking
from perfusion_core.errors import PromptError
from perfusion_core.text import prompt as prompts
from service import base_models, options, quota
from service import idempotency as once
from service.concepts import rows
from service.database.tables import ConceptRow
from service.errors import Conflict, invalid
from service.generations.requests import MAX_CONCEPTS, ConceptChoice, GenerateRequest
from service.generations.strengths import (
    Gate,
    default_gate,
    explicit_gates,
    gate_of_strength,
)
from service.generations.unknown_names import UnknownNames, unknown_placeholders
from service.idempotency import Answer, Idempotency
from service.ids import is_plausible, new_id
from service.jobs import job_order, transitions
from service.jobs import use_cases as jobs
from service.jobs.job_order import QueuePosition
from service.jobs.payloads import GeneratePayload, PromptedConcept
from service.jobs.views import JobAnswer
from service.options import GenerationOptions
from service.statuses import ConceptStatus, JobKind
from service.validation import check_prompt, check_text
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
    ConceptRow.id,
    ConceptRow.name,
    ConceptRow.status,
    ConceptRow.sha256,
    ConceptRow.blob_key,
    ConceptRow.judgement["recommended_strength"].as_float().label("recommended_strength"),
    ConceptRow.base_model_fingerprint.label("own_fingerprint"),
    ConceptRow.covariance_fingerprint.label("own_covariance_fingerprint"),
).select_from(_QUEUE_POSITION.outerjoin(_SERVED, true()).outerjoin(ConceptRow, _NAMED))
_Known = Row[Any]
_NOT_OPTIONS = {*GenerateRequest.model_fields} - {*GenerationOptions.model_fields}


def request(
    service: Service,
    owner_id: str,
    *,
    body: GenerateRequest,
    idempotency: Idempotency | None = None,
) -> Answer:
    """Accept a request for images and queue it; the answer is {"job"}."""
    prompt = _parse(check_prompt(body.prompt, pointer="/prompt"))
    asked = _asked(body, prompt=prompt)
    gates = explicit_gates(body.concepts)
    request_sha256 = once.digest(["generate", _identity(body)]) if idempotency else ""
    drawn = secrets.randbelow(MAX_SEED + 1)
    job_id = new_id("job")
    no_room = quota.full(service, owner_id)

    def act(connection: Connection, now: datetime) -> tuple[dict[str, Any], str]:
        if no_room is not None:
            raise no_room
        named = {
            "owner": owner_id,
            "names": prompt.names,
            "kind": JobKind.GENERATE,
            "most_waiting": service.settings.max_queued_jobs_per_owner,
        }
        known = connection.execute(_KNOWN, named).all()
        given, config = _options(asked, known[0])
        concepts = _resolve(prompt=prompt, known=known)
        explicit = _attribute(
            connection, owner_id, choices=body.concepts, gates=gates, among=concepts
        )
        _check_one_base_model(concepts)
        payload = GeneratePayload(
            prompt=prompt.text,
            concepts=tuple(
                _use(concept, explicit.get(concept.id), prompt=prompt, locking=config.locking)
                for concept in concepts
            ),
            config={**given, "seed": config.seed if config.seed is not None else drawn},
            attention_maps=body.attention_maps,
        )
        job = transitions.new_job(
            service,
            owner_id,
            job_id=job_id,
            kind=JobKind.GENERATE,
            payload=payload.to_row(),
            total_steps=config.num_inference_steps,
            concept_id=None,
            now=now,
        )
        position = QueuePosition(*known[0][:3])
        queued_at = transitions.enqueue(connection, service, job=job, position=position)
        accepted = JobAnswer(job=jobs.accepted(job, queue_position=queued_at))
        return accepted.to_json(), f"/jobs/{job_id}"

    try:
        answer = once.answer_once(
            service, owner_id, idempotency=idempotency, request_sha256=request_sha256, act=act
        )
    except UnknownNames as error:  # the search for near names holds no transaction open
        raise unknown_placeholders(service, owner_id, unknown=error.names) from None
    if not answer.replayed:
        service.notifier.notify_soon(job_id, JobKind.GENERATE)
    return answer


def _identity(body: GenerateRequest) -> dict[str, Any]:
    """Return the fields by which two requests are equal, for idempotency keys.

    Fields that a later release added are left out if the request does not set these fields. So a
    key that the previous release stored still matches the key's request.
    """
    given = body.model_dump(exclude_unset=True)
    identity = {name: given.get(name) for name in GenerateRequest.model_fields}
    identity["concepts"] = [choice.model_dump() for choice in body.concepts]
    return {
        name: value
        for name, value in identity.items()
        if value or name not in ("attention_maps", "gates")
    }


def _parse(text: str, *, pointer: str = "/prompt") -> prompts.Prompt:
    try:
        prompt = prompts.parse(text)
    except PromptError as error:
        raise invalid(pointer, str(error), slug="prompt") from None
    if len(prompt.names) > MAX_CONCEPTS:
        raise invalid(pointer, f"A prompt may name {MAX_CONCEPTS} concepts at most.")
    return prompt


def _asked(body: GenerateRequest, *, prompt: prompts.Prompt) -> dict[str, Any]:
    """Return the options that a request sets; a null option means the base model's default."""
    given = body.model_dump(exclude_unset=True, exclude=_NOT_OPTIONS)
    asked = {name: value for name, value in given.items() if value is not None}
    if "negative_prompt" in asked:
        asked["negative_prompt"] = _negative_prompt(asked["negative_prompt"], prompt=prompt)
    return asked


def _negative_prompt(text: str, *, prompt: prompts.Prompt) -> str:
    """Return the negative prompt; a concept in it must be in the prompt too."""
    pointer = "/negative_prompt"
    text = check_text(text, pointer=pointer)
    parsed = _parse(text, pointer=pointer)
    elsewhere = [name for name in parsed.names if name not in prompt.names]
    if elsewhere:
        raise invalid(
            pointer,
            f"The prompt does not mention <{elsewhere[0]}>. Put it there, or take the brackets "
            "away here.",
            slug="unknown-placeholder",
        )
    if parsed.strengths:
        name = next(iter(parsed.strengths))
        raise invalid(
            pointer,
            f"A concept has one gate: write the strength of <{name}> in the prompt, and here only "
            f"<{name}>.",
            slug="prompt",
        )
    return text


def _options(asked: dict[str, Any], known: _Known) -> tuple[dict[str, Any], GenerateConfig]:
    defaults = options.known_defaults(GenerateConfig, known.defaults or {})
    config = options.check(
        GenerateConfig, asked, defaults=defaults, resolution=known.resolution, pointer=""
    )
    return {**defaults, **asked}, config


def _resolve(*, prompt: prompts.Prompt, known: Iterable[_Known]) -> list[_Known]:
    """Return the prompt's concepts in order of first mention, all ready."""
    found = {concept.name: concept for concept in known}
    unknown = [name for name in prompt.names if name not in found]
    if unknown:
        raise UnknownNames(unknown)
    concepts = [found[name] for name in prompt.names]
    for concept in concepts:
        if concept.status is not ConceptStatus.READY:
            raise rows.not_ready(concept.name, concept.status)
    return concepts


def _attribute(
    connection: Connection,
    owner_id: str,
    *,
    choices: Sequence[ConceptChoice],
    gates: Sequence[Gate | None],
    among: Iterable[_Known],
) -> dict[str, Gate]:
    """Return the explicit gates by concept id; every entry must name a concept of the prompt."""
    by_ref = {ref: concept for concept in among for ref in (concept.id, concept.name)}
    explicit: dict[str, Gate | None] = {}
    for k, (choice, gate) in enumerate(zip(choices, gates, strict=True)):
        field = "name" if choice.name is not None else "id"
        ref = choice.name if choice.name is not None else choice.id
        concept = by_ref.get(ref or "")
        if concept is None or (field == "name") != (concept.name == ref):
            raise invalid(f"/concepts/{k}/{field}", _not_in_prompt(connection, owner_id, ref=ref))
        if concept.id in explicit:
            raise invalid(f"/concepts/{k}", f"{concept.name} is listed twice. Keep one entry.")
        explicit[concept.id] = gate
    return {concept_id: gate for concept_id, gate in explicit.items() if gate is not None}


def _not_in_prompt(connection: Connection, owner_id: str, *, ref: str | None) -> str:
    name = None
    if ref is not None and is_plausible(ref):
        name = connection.scalar(
            select(ConceptRow.name).where(
                ConceptRow.owner_id == owner_id, or_(ConceptRow.id == ref, ConceptRow.name == ref)
            )
        )
    if name is None:
        return "This names no concept of yours."
    return f"The prompt does not mention <{name}>. Put it there, or leave this entry out."


def _check_one_base_model(concepts: Sequence[_Known]) -> None:
    if not concepts:
        return
    first = concepts[0]
    expected = (first.fingerprint, first.covariance_fingerprint)
    other = "the one that is served here"
    if first.fingerprint is None:  # no worker has registered a base model yet
        expected = (first.own_fingerprint, first.own_covariance_fingerprint)
        other = f"that of <{first.name}>"
    for concept in concepts:
        own = (concept.own_fingerprint, concept.own_covariance_fingerprint)
        if own != expected:
            raise Conflict(
                "base-model-mismatch",
                f"<{concept.name}> belongs to the base model {own[0]} with the covariance "
                f"{own[1]}, which is not {other} ({expected[0]} with {expected[1]}). "
                "Train it again on that one.",
            )


def _use(
    concept: _Known, gate: Gate | None, *, prompt: prompts.Prompt, locking: Locking
) -> PromptedConcept:
    if gate is None:
        written = prompt.strengths.get(concept.name)
        recommended = concept.recommended_strength
        gate = (
            default_gate(locking, recommended_strength=recommended)
            if written is None
            else gate_of_strength(written)
        )
    return PromptedConcept(
        id=concept.id,
        name=concept.name,
        sha256=concept.sha256,
        blob_key=concept.blob_key,
        beta=gate.beta,
        tau=gate.tau,
    )

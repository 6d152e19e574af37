"""A generation job: concepts from the cache, images from the engine, PNG files at the end.

The job's warnings are recorded before the first step, so that the job's owner can cancel the job
early and change the request.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from perfusion_core.base_model import BaseModel
from perfusion_core.conditioning import ConceptUse
from perfusion_core.evaluators.presence import Measured
from perfusion_core.sampling import overlays, png
from perfusion_core.sampling.sample import Sample
from perfusion_core.sampling.sampler import ImageRequest
from service.blobs import keys
from service.concepts import rows
from service.execution import leases
from service.execution.leases import ClaimedJob, NewAttentionMap, NewImage
from service.jobs.payloads import GeneratePayload, PromptedConcept
from service.jobs.views import PresenceView
from worker.context import WorkerContext
from worker.engine.waiting import WhileWaiting
from worker.errors import FileGone
from worker.heartbeat import Heartbeat
from worker.jobs import composition, options, presence
from worker.jobs.sizes import check_size


def generate_images(context: WorkerContext, claimed: ClaimedJob, heartbeat: Heartbeat) -> bool:
    """Generate and record a claimed job's images; return False if the row refused the images."""
    base = context.model_loader.base()
    payload = options.generate_payload(claimed)
    heartbeat.retry_while_unavailable(lambda: _check_concepts(context, payload.concepts))
    request = _to_request(context, payload, base)
    concept_ids = {concept.name: concept.id for concept in payload.concepts}
    while_waiting = heartbeat.while_waiting(lambda: context.engine.moved_at)
    # Short calls that run before the next step of the images.
    run_on_device = partial(context.engine.run_on_device, urgent=True, while_waiting=while_waiting)
    warnings = composition.warnings(base, request, run_on_device, concept_ids=concept_ids)
    # An earlier attempt may have recorded warnings about its own images, which differ from these.
    if (warnings or claimed.attempt > 1) and not _warn(
        context, claimed, heartbeat, warnings=warnings
    ):
        return False
    samples = _sample(context, claimed, request, heartbeat, while_waiting=while_waiting)
    heartbeat.check()
    measured = presence.measure(
        context,
        request,
        images=[sample.image for sample in samples],
        run_on_device=run_on_device,
    )
    images = [
        replace(
            _store(
                context,
                claimed,
                sample,
                index=index,
                payload=payload,
                request=request,
                base=base,
            ),
            presence=None if measured is None else _presence_views(measured[index], concept_ids),
        )
        for index, sample in enumerate(samples)
    ]
    vanished = presence.warnings(measured, concept_ids=concept_ids)
    if vanished and not _warn(context, claimed, heartbeat, warnings=[*warnings, *vanished]):
        return False
    return heartbeat.retry_while_unavailable(
        lambda: leases.finish_generation(context.service, claimed, images=images)
    )


def _warn(
    context: WorkerContext,
    claimed: ClaimedJob,
    heartbeat: Heartbeat,
    *,
    warnings: Sequence[dict[str, Any]],
) -> bool:
    return heartbeat.retry_while_unavailable(
        lambda: leases.warn(context.service, claimed, warnings=warnings)
    )


def _check_concepts(context: WorkerContext, listed: Sequence[PromptedConcept]) -> None:
    """Raise FileGone if a concept's file was deleted; the cache may still contain the concept.

    If a concept was trained again after the request was accepted, the concept file of the request
    is kept as the previous file. Only a second replacement deletes the previous file.
    """
    if not listed:
        return
    named = rows.named_hashes(context.service, [concept.id for concept in listed])
    gone = [concept.name for concept in listed if concept.sha256 not in named.get(concept.id, ())]
    if gone:
        names = ", ".join(f"<{name}>" for name in gone)
        raise FileGone(
            "A concept of this prompt was deleted, or trained again twice, before the job started: "
            f"{names}. Ask again, or without it."
        )


def _to_request(context: WorkerContext, payload: GeneratePayload, base: BaseModel) -> ImageRequest:
    config = options.generate_config(base.defaults, payload.config)
    check_size(base, config)
    concepts: dict[str, ConceptUse] = {}
    for named in payload.concepts:
        concept = context.concepts.get(named.sha256, blob_key=named.blob_key)
        # The owner may rename a concept, so the file may contain an older name.
        concept = concept.renamed(named.name)
        base.check(concept)
        concepts[named.name] = ConceptUse(concept, beta=named.beta, tau=named.tau)
    return ImageRequest(
        prompt=payload.prompt,
        concepts=concepts,
        config=config,
        attention_maps=payload.attention_maps,
    )


def _presence_views(measured: Measured, concept_ids: dict[str, str]) -> tuple[PresenceView, ...]:
    return tuple(
        PresenceView(
            concept_id=concept_ids[name],
            name=name,
            score=round(found.score, 4),
            present=found.present,
        )
        for name, found in measured.items()
    )


def _sample(
    context: WorkerContext,
    claimed: ClaimedJob,
    image_request: ImageRequest,
    heartbeat: Heartbeat,
    *,
    while_waiting: WhileWaiting,
) -> Sequence[Sample]:
    steps = image_request.config.num_inference_steps

    def report(done: int, total: int) -> None:
        # The images of one job need not advance together, so the progress is their mean.
        heartbeat.report(done * steps // total, steps)

    heartbeat.report(0, steps)
    request = context.engine.submit(
        image_request, owner=claimed.owner_id, on_step=report, alone=claimed.lost_before
    )
    return request.wait(while_waiting)


def _store(
    context: WorkerContext,
    claimed: ClaimedJob,
    sample: Sample,
    *,
    index: int,
    payload: GeneratePayload,
    request: ImageRequest,
    base: BaseModel,
) -> NewImage:
    hashes = {concept.name: concept.sha256 for concept in payload.concepts}
    data = png.encode(sample, request=request, concept_hashes=hashes, base=base)
    blob_key = keys.image_key(claimed.id, claimed.attempt, index=index)
    context.service.blobs.put_new(blob_key, data)
    maps, maps_bytes = _store_maps(context, claimed, sample, index=index, payload=payload)
    return NewImage(
        index=index,
        seed=sample.seed,
        width=sample.image.width,
        height=sample.image.height,
        blob_key=blob_key,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data) + maps_bytes,
        attention_maps=maps,
    )


def _store_maps(
    context: WorkerContext,
    claimed: ClaimedJob,
    sample: Sample,
    *,
    index: int,
    payload: GeneratePayload,
) -> tuple[tuple[NewAttentionMap, ...] | None, int]:
    """Store an image's maps; return the maps and the size of the maps in bytes."""
    if sample.maps is None:
        return None, 0
    concept_ids = {concept.name: concept.id for concept in payload.concepts}
    stored, size_bytes = [], 0
    for number, word_map in enumerate(sample.maps):
        data = overlays.draw(sample.image, word_map.share)
        blob_key = keys.attention_map_key(claimed.id, claimed.attempt, index=index, number=number)
        context.service.blobs.put_new(blob_key, data)
        size_bytes += len(data)
        stored.append(
            NewAttentionMap(
                word=word_map.word.text,
                concept_id=concept_ids.get(word_map.word.concept or ""),
                coverage=round(word_map.coverage, 4),
                blob_key=blob_key,
                sha256=hashlib.sha256(data).hexdigest(),
            )
        )
    return tuple(stored), size_bytes

"""A generation job: concepts from the cache, images from the engine, PNG files.

The job's warnings are recorded before the first step, so that the job's owner can cancel the job
early and change the request.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from perfusion_core.base_model import BaseModel
from perfusion_core.callbacks import RunOnDevice
from perfusion_core.config import GenerateConfig
from perfusion_core.sampling.sample import Sample
from service.execution import leases
from service.execution.leases import ClaimedJob, NewImage
from service.statuses import Phase
from worker.context import WorkerContext
from worker.heartbeat import Heartbeat
from worker.jobs import composition, edits, images, options, presence, prompt_length
from worker.jobs.cells import Cell, cells_of, check_concepts
from worker.jobs.portions import CellImages, portions_of
from worker.jobs.presence import Measures
from worker.live_previews import LivePreviews
from worker.progress import GenerationProgress


def generate_images(context: WorkerContext, claimed: ClaimedJob, heartbeat: Heartbeat) -> bool:
    """Generate and record a claimed job's images; return False if the row refused the images."""
    base = context.model_loader.base()
    payload = options.generate_payload(claimed)
    heartbeat.retry_while_unavailable(lambda: check_concepts(context, payload.concepts))
    heartbeat.enter(Phase.PREPARING)
    while_waiting = heartbeat.while_waiting(lambda: context.engine.moved_at)
    # Short calls that run before the next step of the images.
    run_on_device = partial(context.engine.run_on_device, urgent=True, while_waiting=while_waiting)
    edit = edits.edit_of(context, claimed, payload, run_on_device=run_on_device)
    cells = cells_of(context, payload, base, edit=edit)
    warnings = _warnings(base, cells, run_on_device)
    # An earlier attempt may have recorded warnings about its own images, which differ from these.
    if (warnings or claimed.attempt > 1) and not _warn(
        context, claimed, heartbeat, warnings=warnings
    ):
        return False
    progress = GenerationProgress(
        heartbeat,
        steps=max(cell.request.config.num_inference_steps for cell in cells),
        images=sum(cell.request.config.num_images for cell in cells),
        pixels=sum(_pixels(cell.request.config, base) for cell in cells),
        after_sampling=context.after_sampling,
    )
    stored: list[NewImage] = []
    measures = Measures(context, run_on_device=run_on_device)
    for portion in portions_of(cells):
        stored += _images_of(
            context,
            claimed,
            portion,
            heartbeat,
            first_index=len(stored),
            progress=progress,
            measures=measures,
        )
    measured = measures.of_images()
    concept_ids = {name: each for cell in cells for name, each in cell.concept_ids.items()}
    if measured is not None:
        stored = [
            replace(image, presence=presence.views_of(found, concept_ids=concept_ids))
            for image, found in zip(stored, measured, strict=True)
        ]
    vanished = presence.warnings(measured, concept_ids=concept_ids)
    if vanished and not _warn(context, claimed, heartbeat, warnings=[*warnings, *vanished]):
        return False
    progress.end()
    return heartbeat.retry_while_unavailable(
        lambda: leases.finish_generation(context.service, claimed, images=stored)
    )


def _warnings(
    base: BaseModel, cells: Iterable[Cell], run_on_device: RunOnDevice
) -> list[dict[str, Any]]:
    """Return what may go wrong with the cells' images, each warning once."""
    warnings: list[dict[str, Any]] = []
    for cell in cells:
        found = [
            *prompt_length.warnings(base, cell.request),
            *composition.warnings(base, cell.request, run_on_device, concept_ids=cell.concept_ids),
        ]
        warnings += [warning for warning in found if warning not in warnings]
    return warnings


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


def _images_of(
    context: WorkerContext,
    claimed: ClaimedJob,
    portion: Sequence[CellImages],
    heartbeat: Heartbeat,
    *,
    first_index: int,
    progress: GenerationProgress,
    measures: Measures,
) -> list[NewImage]:
    """Sample, measure and store the images of a portion; return what to record."""
    heartbeat.enter(Phase.SAMPLING)
    samples = _sample(
        context, claimed, portion, heartbeat, first_index=first_index, progress=progress
    )
    heartbeat.check()
    heartbeat.enter(Phase.EVALUATING)
    cells = [part.cell for part in portion for _ in range(part.count)]
    measures.add([cell.request for cell in cells], images=[sample.seen for sample in samples])
    heartbeat.enter(Phase.SAVING)
    base = context.model_loader.base()
    stored = [
        images.store(context, claimed, sample, index=index, cell=cell, base=base)
        for index, (sample, cell) in enumerate(zip(samples, cells, strict=True), start=first_index)
    ]
    progress.saved()
    return stored


def _sample(
    context: WorkerContext,
    claimed: ClaimedJob,
    portion: Sequence[CellImages],
    heartbeat: Heartbeat,
    *,
    first_index: int,
    progress: GenerationProgress,
) -> Sequence[Sample]:
    request = context.engine.submit(
        *[part.request for part in portion],
        owner=claimed.owner_id,
        on_step=progress.begin(sum(part.count for part in portion)),
        alone=claimed.lost_before,
    )
    while_waiting = heartbeat.while_waiting(lambda: context.engine.moved_at)
    previews = LivePreviews(
        context,
        claimed,
        heartbeat,
        request,
        first_index=first_index,
        image_count=progress.images,
        while_waiting=while_waiting,
    )

    def wait(on_device: bool) -> None:
        while_waiting(on_device)
        previews.maybe_draw()

    return request.wait(wait)


def _pixels(config: GenerateConfig, base: BaseModel) -> int:
    side = base.default_resolution
    return config.num_images * (config.width or side) * (config.height or side)

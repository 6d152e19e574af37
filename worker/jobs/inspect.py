"""An inspection job: says what is wrong with pictures, and how a training would see them."""

import hashlib
import io
import itertools
from collections.abc import Sequence

from PIL import Image

from perfusion_core.pictures.inspection import InspectedPicture, inspect_pictures
from perfusion_core.pictures.masks import FindObject
from service.blobs import keys
from service.execution import leases
from service.execution.leases import ClaimedJob
from service.jobs.lease_types import NewInspectedPicture
from service.jobs.payloads import PictureToInspect
from service.jobs.views import FindingView
from service.pictures import crops
from service.statuses import Phase
from worker.context import WorkerContext
from worker.heartbeat import Heartbeat
from worker.jobs import options, pictures, teaching_warnings
from worker.models import segmenter


def inspect_upload(context: WorkerContext, claimed: ClaimedJob, heartbeat: Heartbeat) -> bool:
    """Inspect a claimed job's pictures, record the result; return False if the row refused it."""
    payload = options.inspect_payload(claimed)
    heartbeat.report(0, len(payload.pictures))
    base = context.model_loader.base()
    if payload.superclass is not None:
        warnings = teaching_warnings.about_superclass(base, payload.superclass)
        if warnings and not heartbeat.retry_while_unavailable(
            lambda: leases.warn(context.service, claimed, warnings=warnings)
        ):
            return False
    uploaded, masks = pictures.read(context.service, payload.pictures)
    heartbeat.enter(Phase.EVALUATING)
    found = inspect_pictures(
        uploaded,
        masks=masks,
        superclass=payload.superclass,
        segmenter=_segmenter(context, heartbeat, uploaded, masks=masks)
        if payload.superclass
        else None,
        resolution=base.default_resolution,
    )
    heartbeat.check()
    heartbeat.enter(Phase.SAVING)
    stored = [
        _store(context, claimed, inspected, index=index, picture=picture, size=image.size)
        for index, (inspected, picture, image) in enumerate(
            zip(found, payload.pictures, uploaded, strict=True)
        )
    ]
    return heartbeat.retry_while_unavailable(
        lambda: leases.finish_inspection(context.service, claimed, pictures=stored)
    )


def _segmenter(
    context: WorkerContext,
    heartbeat: Heartbeat,
    uploaded: Sequence[Image.Image],
    *,
    masks: Sequence[Image.Image | None],
) -> FindObject | None:
    """Return a segmenter that takes turns with the images on the device; None if none is needed."""
    device = context.model_loader.base().placed.side_device
    find = segmenter.find(uploaded, masks, name=context.service.settings.segmenter, device=device)
    if find is None:
        return None
    while_waiting = heartbeat.while_waiting(lambda: context.engine.moved_at)
    count, numbers = len(uploaded), itertools.count(1)

    def find_in_turn(picture: Image.Image, superclass: str) -> Image.Image:
        mask: Image.Image = context.engine.run_on_device(
            lambda: find(picture, superclass), urgent=True, while_waiting=while_waiting
        )
        heartbeat.report(min(next(numbers), count), count)
        return mask

    return find_in_turn


def _store(
    context: WorkerContext,
    claimed: ClaimedJob,
    inspected: InspectedPicture,
    *,
    index: int,
    picture: PictureToInspect,
    size: tuple[int, int],
) -> NewInspectedPicture:
    mask_key = mask_sha256 = None
    if inspected.mask is not None:
        file = io.BytesIO()
        inspected.mask.convert("L").save(file, "PNG")
        mask_key = keys.found_mask_key(claimed.id, claimed.attempt, index=index)
        mask_sha256 = hashlib.sha256(file.getvalue()).hexdigest()
        context.service.blobs.put_new(mask_key, file.getvalue())
    return NewInspectedPicture(
        findings=tuple(
            FindingView(code=finding.code, detail=finding.detail, remedy=finding.remedy)
            for finding in inspected.findings
        ),
        crop=crops.to_uploaded(
            inspected.crop, stored_size=size, uploaded_size=picture.uploaded_size
        ),
        mask_source=inspected.mask_source,
        mask_key=mask_key,
        mask_sha256=mask_sha256,
    )

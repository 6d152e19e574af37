"""A training job: reads pictures from blobs, trains on the device, stores an evaluated concept.

The training's state is saved at intervals and when the process drains, so that another attempt can
resume from the saved state. perfusion_core guarantees that the resumed training gives the same
concept as an uninterrupted training.
"""

import hashlib
import io
from collections.abc import Sequence
from functools import partial

from PIL import Image

from perfusion_core.base_model import BaseModel
from perfusion_core.callbacks import RunOnDevice
from perfusion_core.concept import Concept
from perfusion_core.evaluators.training_evaluator import TrainingEvaluator
from perfusion_core.training.trainer import Training, train
from service.blobs import keys
from service.blobs.store import BlobNotFound
from service.concepts import files
from service.execution import leases
from service.execution.leases import ClaimedJob, TrainedConcept
from service.jobs.payloads import TrainingPicture, TrainPayload
from worker.context import WorkerContext
from worker.errors import Draining, FileGone
from worker.heartbeat import Heartbeat
from worker.jobs import options
from worker.jobs.checkpoints import Checkpoints
from worker.jobs.previews import Previews
from worker.jobs.sizes import check_size
from worker.models import segmenter


def train_concept(context: WorkerContext, claimed: ClaimedJob, heartbeat: Heartbeat) -> bool:
    """Train and record a claimed job's concept; return False if the row refused the concept."""
    base = context.model_loader.base()
    payload = options.train_payload(claimed)
    pictures, masks = _read_pictures(context, payload.pictures)
    checkpoints = Checkpoints(context.service, claimed)
    while_waiting = heartbeat.while_waiting(lambda: context.engine.moved_at)
    run_on_device = partial(context.engine.run_on_device, while_waiting=while_waiting)
    training = _begin(
        payload,
        base,
        run_on_device,
        pictures=pictures,
        masks=masks,
        segmenter_name=context.service.settings.segmenter,
        checkpoints=checkpoints,
    )

    def check() -> None:
        # An evaluation takes time, too, so it also reports progress as a sign of life and can be
        # stopped.
        heartbeat.report(training.step, training.config.max_train_steps)
        heartbeat.check()

    heartbeat.report(training.step, training.config.max_train_steps)
    evaluator = TrainingEvaluator(
        training,
        evaluator=context.evaluator,
        pictures=pictures,
        run_on_device=run_on_device,
        check=check,
    )
    previews = Previews(context, claimed, training)
    while True:
        try:
            heartbeat.check()
            evaluator.evaluate_when_due()
            step = run_on_device(lambda: next(training, None))
            if step is None:
                concept = evaluator.evaluated_concept()
                break
            heartbeat.report(step.step, step.total_steps)
            previews.maybe_draw(training, while_waiting=while_waiting)
        except Draining:
            checkpoints.save(training)
            raise
        checkpoints.save_when_due(training)
    trained = _store(context, claimed, base, concept)
    return heartbeat.retry_while_unavailable(
        lambda: leases.finish_training(context.service, claimed, trained=trained)
    )


def _begin(
    payload: TrainPayload,
    base: BaseModel,
    run_on_device: RunOnDevice,
    *,
    pictures: list[Image.Image],
    masks: list[Image.Image | None],
    segmenter_name: str,
    checkpoints: Checkpoints,
) -> Training:
    config = options.train_config(base.defaults, payload.training)
    check_size(base, config)
    finds_objects = segmenter.find(pictures, masks, name=segmenter_name, device=str(base.device))
    return checkpoints.begin(
        # Each picture is a separate device call, because encoding all pictures takes as long as
        # many images.
        lambda state: train(
            base,
            pictures,
            name=payload.name,
            superclass=payload.superclass,
            config=config,
            masks=masks,
            segmenter=finds_objects,
            state=state,
            run_on_device=run_on_device,
        )
    )


def _read_pictures(
    context: WorkerContext, listed: Sequence[TrainingPicture]
) -> tuple[list[Image.Image], list[Image.Image | None]]:
    def read(key: str) -> Image.Image:
        # This file is safe to decode: the service wrote it from a picture that it decoded within
        # bounds.
        picture = Image.open(io.BytesIO(context.service.blobs.get(key)), formats=("PNG",))
        picture.load()
        return picture

    try:
        pictures = [read(picture.blob_key) for picture in listed]
        masks = [read(picture.mask_key) if picture.mask_key else None for picture in listed]
    except BlobNotFound:
        raise FileGone(
            "A picture of this training is not there any more. Send the pictures again."
        ) from None
    return pictures, masks


def _store(
    context: WorkerContext, claimed: ClaimedJob, base: BaseModel, concept: Concept
) -> TrainedConcept:
    data = concept.to_bytes()
    written = Concept.from_bytes(data)  # with rounded numbers, as the API reads them
    blob_key = f"{keys.attempt_prefix(claimed.id, claimed.attempt)}concept.safetensors"
    context.service.blobs.put_new(blob_key, data)
    return TrainedConcept(
        blob_key=blob_key,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        base_model_name=base.name,
        base_model_fingerprint=base.fingerprint,
        covariance_fingerprint=base.covariance_fingerprint,
        mask_source=concept.mask_source,
        training=dict(concept.training),
        judgement=files.judgement_of(written, base.calibration),
        standing=files.standing_of(written, base.calibration),
    )

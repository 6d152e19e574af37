"""A training job: pictures from blobs, steps on the device, a judged concept file at the end.

The state is saved every so often, and when the process drains, so that another attempt goes on
from it; the core promises that the concept is then the same as without the interruption.
"""

import hashlib
import io
from functools import partial
from typing import Any

from PIL import Image

from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from perfusion_core.training.trainer import Training, train
from service.blobs import store
from service.blobs.store import BlobNotFound
from service.concepts import files
from service.execution import leases
from service.execution.leases import ClaimedJob, TrainedConcept
from worker.context import Parts
from worker.engine.device import TakeTurn
from worker.errors import Draining, FileGone
from worker.heartbeat import Pulse
from worker.jobs import options
from worker.jobs.checkpoints import Checkpoints
from worker.jobs.previews import Previews
from worker.jobs.sizes import check_size
from worker.looking import Looking
from worker.models import segmenter


def train_concept(parts: Parts, claimed: ClaimedJob, pulse: Pulse) -> bool:
    """Train the concept of a claimed job and record it; False where the row would not take it."""
    base = parts.resident.base()
    pictures, masks = _read_pictures(parts, claimed.payload["pictures"])
    checkpoints = Checkpoints(parts.service, claimed)

    def while_waiting(in_hand: bool) -> None:
        pulse.waited(parts.engine.moved_at, in_hand=in_hand)
        pulse.check()

    take_turn = partial(parts.engine.take_turn, while_waiting=while_waiting)
    training = _begin(
        claimed,
        base,
        take_turn,
        pictures=pictures,
        masks=masks,
        segmenter_name=parts.service.settings.segmenter,
        checkpoints=checkpoints,
    )

    def check() -> None:
        # Drawing takes its time, too: it is a sign of life, and stops when it is told to.
        pulse.report(training.step, training.config.max_train_steps)
        pulse.check()

    pulse.report(training.step, training.config.max_train_steps)
    looking = Looking(
        training,
        take_turn=take_turn,
        evaluators=parts.evaluators,
        pictures=pictures,
        check=check,
    )
    previews = Previews(parts, claimed, training)
    while True:
        try:
            pulse.check()
            looking.look_when_due()
            step = take_turn(lambda: next(training, None))
            if step is None:
                concept = looking.judged()
                break
            pulse.report(step.step, step.total_steps)
            previews.maybe_draw(training, while_waiting=while_waiting)
        except Draining:
            checkpoints.save(training)
            raise
        checkpoints.save_when_due(training)
    trained = _store(parts, claimed, base, concept)
    return pulse.insist(lambda: leases.finish_training(parts.service, claimed, trained=trained))


def _begin(
    claimed: ClaimedJob,
    base: BaseModel,
    take_turn: TakeTurn,
    *,
    pictures: list[Image.Image],
    masks: list[Image.Image | None],
    segmenter_name: str,
    checkpoints: Checkpoints,
) -> Training:
    payload = claimed.payload
    config = options.train_config(base.defaults, payload["training"])
    check_size(base, config)
    finds_objects = segmenter.find(pictures, masks, name=segmenter_name, device=str(base.device))
    return checkpoints.begin(
        # A turn for each picture: encoding all of them takes as long as many images.
        lambda state: train(
            base,
            pictures,
            name=payload["name"],
            superclass=payload["superclass"],
            config=config,
            masks=masks,
            segmenter=finds_objects,
            state=state,
            run=take_turn,
        )
    )


def _read_pictures(
    parts: Parts, listed: list[dict[str, Any]]
) -> tuple[list[Image.Image], list[Image.Image | None]]:
    def read(key: str) -> Image.Image:
        # Written by this service itself, from pictures that it decoded within bounds.
        picture = Image.open(io.BytesIO(parts.service.blobs.get(key)), formats=("PNG",))
        picture.load()
        return picture

    try:
        pictures = [read(one["blob_key"]) for one in listed]
        masks = [read(one["mask_key"]) if one["mask_key"] else None for one in listed]
    except BlobNotFound:
        raise FileGone(
            "A picture of this training is not there any more. Send the pictures again."
        ) from None
    return pictures, masks


def _store(parts: Parts, claimed: ClaimedJob, base: BaseModel, concept: Concept) -> TrainedConcept:
    data = concept.to_bytes()
    written = Concept.from_bytes(data)  # where numbers are rounded: the API reads the same
    blob_key = f"{store.attempt_prefix(claimed.id, claimed.attempt)}concept.safetensors"
    parts.service.blobs.put_new(blob_key, data)
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

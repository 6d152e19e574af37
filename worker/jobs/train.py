"""A training job: reads pictures from blobs, trains on the device, stores an evaluated concept.

The training's state is saved at intervals and when the process drains, so that another attempt can
resume from the saved state. perfusion_core guarantees that the resumed training gives the same
concept as an uninterrupted training.
"""

from functools import partial

from PIL import Image

from perfusion_core.base_model import BaseModel
from perfusion_core.callbacks import RunOnDevice
from perfusion_core.evaluators.training_evaluator import TrainingEvaluator
from perfusion_core.pictures.masks import FindObject
from perfusion_core.training.trainer import Training, train
from service.execution import leases
from service.execution.leases import ClaimedJob
from service.jobs.payloads import TrainPayload
from service.statuses import Phase
from worker.context import WorkerContext
from worker.errors import Draining
from worker.heartbeat import Heartbeat
from worker.jobs import concept_files, options, teaching_warnings
from worker.jobs import pictures as stored_pictures
from worker.jobs.checkpoints import Checkpoints
from worker.jobs.previews import Previews
from worker.jobs.sizes import check_size
from worker.models import segmenter
from worker.progress import TrainingProgress


def train_concept(context: WorkerContext, claimed: ClaimedJob, heartbeat: Heartbeat) -> bool:
    """Train and record a claimed job's concept; return False if the row refused the concept."""
    base = context.model_loader.base()
    payload = options.train_payload(claimed)
    pictures, masks = stored_pictures.read(context.service, payload.pictures)
    heartbeat.enter(Phase.PREPARING)
    checkpoints = Checkpoints(context.service, claimed)
    while_waiting = heartbeat.while_waiting(lambda: context.engine.moved_at)
    run_on_device = partial(context.engine.run_on_device, while_waiting=while_waiting)
    finds_objects = segmenter.find(
        pictures, masks, name=context.service.settings.segmenter, device=base.placed.side_device
    )
    training = _begin(
        payload,
        base,
        run_on_device,
        pictures=pictures,
        masks=masks,
        finds_objects=finds_objects,
        checkpoints=checkpoints,
    )
    warnings = teaching_warnings.warnings(
        training, searched=finds_objects is not None, concept_id=claimed.concept_id
    )
    if warnings and not heartbeat.retry_while_unavailable(
        lambda: leases.warn(context.service, claimed, warnings=warnings)
    ):
        return False
    progress = TrainingProgress(training, heartbeat)
    evaluator = TrainingEvaluator(
        training,
        evaluator=context.evaluator,
        pictures=training.examples.squares,
        run_on_device=run_on_device,
        check=progress.check,
    )
    progress.follow(evaluator)
    previews = Previews(context, claimed, training)
    while True:
        try:
            heartbeat.check()
            if training.steps_left and heartbeat.must_finish(training.step):
                training.finish()
                # Another attempt ends at this step, too, even if this one is lost in the judgement.
                checkpoints.save(training)
            if training.is_evaluation_due:
                with progress.evaluation():
                    evaluator.evaluate_when_due()
            if not training.steps_left:
                with progress.evaluation():
                    concept = evaluator.evaluated_concept()
                break
            with progress.step():
                run_on_device(lambda: next(training))
            if previews.is_due(training):
                with progress.preview():
                    previews.maybe_draw(training, while_waiting=while_waiting)
        except Draining:
            checkpoints.save(training)
            raise
        checkpoints.save_when_due(training)
    heartbeat.enter(Phase.SAVING)
    trained = concept_files.store(context, claimed, base, concept)
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
    finds_objects: FindObject | None,
    checkpoints: Checkpoints,
) -> Training:
    config = options.train_config(base.defaults, payload.training)
    check_size(base, config)
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
            crops=[picture.crop for picture in payload.pictures],
            segmenter=finds_objects,
            state=state,
            run_on_device=run_on_device,
        )
    )

"""Preview images of a training, which show its concept at the present step.

The engine samples previews like other images. All previews of a training have the same seed, so
that the previews can be compared. Previews take at most a tenth of the training's time.
"""

import io
import math
import time

import structlog

from perfusion_core.conditioning import ConceptUse
from perfusion_core.errors import Interrupted
from perfusion_core.evaluation.eval_prompts import INFERENCE_STEPS, quick_options
from perfusion_core.sampling.sample import Sample
from perfusion_core.sampling.sampler import ImageRequest
from perfusion_core.training.trainer import Training
from service.execution import checkpoints
from service.execution.leases import ClaimedJob
from worker.context import WorkerContext
from worker.engine.waiting import WhileWaiting

_HOW_MANY = 8
_SHARE_OF_TIME = 0.1
_SEED = 7
# The cost of a preview is the time that the last preview took. The cost of the first preview is
# estimated: it passes two rows forward in each of its steps, while a training step passes each row
# of its batch forward and back, which costs as much as three forward passes.
_PREVIEW_ROWS = 2 * INFERENCE_STEPS / 3
_log = structlog.get_logger("perfusion.worker")


class Previews:
    """The previews of one training, drawn when a preview is due and affordable."""

    def __init__(self, context: WorkerContext, claimed: ClaimedJob, training: Training) -> None:
        self._context = context
        self._claimed = claimed
        config = training.config
        self._every_steps = max(1, config.max_train_steps // _HOW_MANY)
        in_steps = max(1.0, _PREVIEW_ROWS / config.train_batch_size)
        first = math.ceil(in_steps / _SHARE_OF_TIME)
        self._next_step = training.step + first
        self._began = time.monotonic()
        self._spent_seconds = 0.0
        self._last_seconds = 0.0

    def is_due(self, training: Training) -> bool:
        """Return whether a preview of the present concept is due and affordable."""
        return training.step >= self._next_step and self._affordable()

    def maybe_draw(self, training: Training, *, while_waiting: WhileWaiting) -> None:
        """Draw a preview of the present concept if one is due; a failure loses only the preview.

        The argument of `while_waiting` says whether the device is running the preview;
        `while_waiting` raises Interrupted if the training must stop.
        """
        if not self.is_due(training):
            return
        self._next_step = training.step + self._every_steps
        began = time.monotonic()
        try:
            self._draw(training, while_waiting)
        except Interrupted:
            raise
        except Exception as error:
            _log.warning("training.no_preview", error=type(error).__name__, exc_info=True)
        finally:
            self._last_seconds = time.monotonic() - began
            self._spent_seconds += self._last_seconds

    def _affordable(self) -> bool:
        budget = _SHARE_OF_TIME * (time.monotonic() - self._began)
        return self._spent_seconds + self._last_seconds <= budget

    def _draw(self, training: Training, while_waiting: WhileWaiting) -> None:
        sample = self._sample(training, while_waiting)
        file = io.BytesIO()
        sample.image.save(file, "PNG")
        checkpoints.save_preview(self._context.service, self._claimed, png=file.getvalue())

    def _sample(self, training: Training, while_waiting: WhileWaiting) -> Sample:
        config = training.base.defaults.generate_config(
            {**quick_options(training.base.defaults), "num_images": 1, "seed": _SEED}
        )
        use = ConceptUse(training.concept())  # not measured yet, so at the default strength
        request = self._context.engine.submit(
            ImageRequest(
                prompt=f"a photo of a <{training.name}>",
                concepts={training.name: use},
                config=config,
            ),
            owner=self._claimed.owner_id,
        )
        return request.wait(while_waiting)[0]

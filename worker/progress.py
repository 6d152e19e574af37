"""What a job tells its owner while it runs: its phase, its step, and the seconds left."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

from perfusion_core.evaluation.eval_prompts import image_config
from perfusion_core.evaluation.workload import Workload
from service.statuses import Phase
from worker.heartbeat import Heartbeat

if TYPE_CHECKING:
    from perfusion_core.evaluators.training_evaluator import TrainingEvaluator
    from perfusion_core.training.trainer import Training

# Of the device's time, which others wait for.
_SHARE_OF_PREVIEWS = 0.02


class TrainingProgress:
    """Measures the phases of one attempt at a training, and reports through its heartbeat."""

    def __init__(self, training: "Training", heartbeat: Heartbeat) -> None:
        self._training = training
        self._heartbeat = heartbeat
        self._evaluator: TrainingEvaluator | None = None
        self._workload = Workload(
            image_steps=image_config(training.base.defaults, seed=0).num_inference_steps,
            batch_size=training.config.train_batch_size,
        )
        self._report()

    def follow(self, evaluator: "TrainingEvaluator") -> None:
        """Count from now on what the evaluations still have to draw."""
        self._evaluator = evaluator

    def check(self) -> None:
        """Report a step of an evaluation; raise Interrupted if the work must stop.

        An evaluation takes time, too, so it also reports progress as a sign of life and can be
        stopped.
        """
        self._workload.evaluate()
        self._report()
        self._heartbeat.check()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Measure and report a step of the training."""
        self._heartbeat.enter(Phase.TRAINING)
        with self._workload.step():
            yield
        self._report()

    @contextmanager
    def preview(self) -> Iterator[None]:
        """Measure a preview, if one is drawn."""
        self._heartbeat.enter(Phase.SAMPLING)
        with self._workload.preview():
            yield

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Measure and report an evaluation."""
        self._heartbeat.enter(Phase.EVALUATING)
        with self._workload.evaluation():
            yield
        self._report()

    def _report(self) -> None:
        training = self._training
        self._heartbeat.report(
            training.step, training.config.max_train_steps, seconds_left=self._seconds_left
        )

    def _seconds_left(self, _: float | None) -> float | None:
        if self._evaluator is None:
            return None
        return self._workload.seconds_left(
            steps=self._training.steps_left, batches=self._evaluator.batches_left
        )


class AfterSampling:
    """What a worker's generations take after their last step: decoding, measuring and saving."""

    def __init__(self) -> None:
        self._seconds_per_pixel: float | None = None

    def seconds(self, pixels: int) -> float | None:
        """Return the estimate for images of so many pixels in all; None before the first."""
        return None if self._seconds_per_pixel is None else self._seconds_per_pixel * pixels

    def record(self, pixels: int, seconds: float) -> None:
        """Record what the latest generation took."""
        self._seconds_per_pixel = seconds / pixels


class GenerationProgress:
    """Reports the sampling of one generation through its heartbeat."""

    def __init__(
        self,
        heartbeat: Heartbeat,
        *,
        steps: int,
        images: int,
        pixels: int,
        after_sampling: AfterSampling,
    ) -> None:
        """`pixels` are those of all `images` together."""
        self._heartbeat = heartbeat
        self._steps = steps
        self.images = images
        self._pixels = pixels
        self._after_sampling = after_sampling
        self._begun = 0  # images
        self._sampled_at = time.monotonic()
        self._seconds_after = 0.0  # between the last steps of images and their files
        self._report(0, 1)

    def begin(self, images: int) -> Callable[[int, int], None]:
        """Return the function to call with the steps done of so many images, and with all steps."""
        before, self._begun = self._begun, self._begun + images

        def report(done: int, total: int) -> None:
            self._report(before * total + done * images, self.images * total)

        return report

    def _report(self, done: int, total: int) -> None:
        self._sampled_at = time.monotonic()
        # The images of one job need not advance together, so the progress is their mean.
        step = done * self._steps // total
        after = self._after_sampling.seconds(self._pixels)

        def seconds_left(pace: float | None) -> float | None:
            if step == self._steps:
                return after
            return None if pace is None else (self._steps - step) * pace + (after or 0.0)

        self._heartbeat.report(step, self._steps, seconds_left=seconds_left)

    def saved(self) -> None:
        """Count the time since the last step: the images that were begun are stored."""
        self._seconds_after += time.monotonic() - self._sampled_at

    def end(self) -> None:
        """Record the time after the last steps, for the estimates of later generations."""
        self._after_sampling.record(self._pixels, self._seconds_after)


class PreviewBudget:
    """The time that all previews of a worker may take."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._free_at = 0.0

    def take(self) -> bool:
        """Return whether a preview may be drawn now. If so, no other one may until `spent`."""
        with self._lock:
            if time.monotonic() < self._free_at:
                return False
            self._free_at = float("inf")
            return True

    def spent(self, seconds: float) -> None:
        """Record how long the preview kept the device; the next one waits accordingly."""
        with self._lock:
            self._free_at = time.monotonic() + seconds / _SHARE_OF_PREVIEWS

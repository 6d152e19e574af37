"""How much evaluations draw, and how long a training therefore takes.

The unit is a batch of images: an evaluation draws its images in batches of IMAGES_AT_ONCE, and one
batch is never drawn twice. This module does not import torch.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic

from perfusion_core.evaluation.curve import STRENGTHS
from perfusion_core.evaluation.eval_prompts import IMAGES_AT_ONCE, PROOF, EvalPrompt

# A trained row passes forward and back, which costs three passes; an image passes two rows forward.
_PASSES_OF_TRAINED_ROW = 3.0
_PASSES_OF_BATCH = 2.0 * IMAGES_AT_ONCE
# Steps of a training can be slow while images are generated, so only the latest ones count.
_NEWEST_SHARE = 0.1


def batches_of(eval_prompts: Sequence[EvalPrompt]) -> list[tuple[EvalPrompt, ...]]:
    """Return the eval prompts in the batches in which their images are drawn."""
    firsts = range(0, len(eval_prompts), IMAGES_AT_ONCE)
    return [tuple(eval_prompts[first : first + IMAGES_AT_ONCE]) for first in firsts]


def batches_of_curve(eval_prompts: Sequence[EvalPrompt]) -> int:
    """Return the batches that a curve and its proof draw, of the superclass and of the concept."""
    curve, proof = set(batches_of(eval_prompts)), set(batches_of(PROOF))
    return len(curve | proof) + len(STRENGTHS) * len(curve) + len(proof - curve)


class Workload:
    """What is left of a training or a judgement, and how long it takes at the measured pace.

    Until a step of an evaluation has been measured, its duration follows from the duration of a
    training's step: both are passes through the same U-Net.
    """

    def __init__(
        self, *, image_steps: int, batch_size: int | None, clock: Callable[[], float] = monotonic
    ) -> None:
        """`image_steps` are the steps of an evaluation's image; `batch_size` is the training's."""
        self._image_steps = image_steps
        self._batch_size = batch_size
        self._clock = clock
        self._step_seconds: float | None = None
        self._stepping_seconds = self._drawing_seconds = 0.0
        self._eval_seconds, self._eval_steps = 0.0, 0
        self._eval_began: float | None = None
        self._done_of_this_evaluation = 0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Measure a step of the training."""
        began = self._clock()
        yield
        seconds = self._clock() - began
        before = self._step_seconds
        self._step_seconds = (
            seconds if before is None else before + _NEWEST_SHARE * (seconds - before)
        )
        self._stepping_seconds += seconds

    @contextmanager
    def preview(self) -> Iterator[None]:
        """Measure a preview of the training, if one is drawn."""
        began = self._clock()
        yield
        self._drawing_seconds += self._clock() - began

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Measure an evaluation, during which `evaluate` is called before each step."""
        self._done_of_this_evaluation, self._eval_began = 0, self._clock()
        yield
        self._eval_seconds += self._clock() - self._eval_began
        self._done_of_this_evaluation, self._eval_began = 0, None

    def evaluate(self) -> None:
        """Count a step of the present evaluation's images."""
        self._eval_steps += 1
        self._done_of_this_evaluation += 1

    def seconds_left(self, *, steps: int, batches: int) -> float | None:
        """Return the duration of so many steps and batches of images; None if it is unknown.

        `batches` includes all batches of the evaluation that runs now.
        """
        left = max(0, batches * self._image_steps - self._done_of_this_evaluation)
        each, drawn = self._step_seconds, self._seconds_of_eval_step()
        if (steps and each is None) or (left and drawn is None):
            return None
        previews = self._drawing_seconds / max(self._stepping_seconds, 1e-9)
        return steps * (each or 0.0) * (1 + previews) + left * (drawn or 0.0)

    def _seconds_of_eval_step(self) -> float | None:
        running = 0.0 if self._eval_began is None else self._clock() - self._eval_began
        # The step that has just begun is counted already, so a mean needs two of them.
        if self._eval_steps >= 2:
            return (self._eval_seconds + running) / self._eval_steps
        if self._step_seconds is None or self._batch_size is None:
            return None
        passes = self._batch_size * _PASSES_OF_TRAINED_ROW
        return self._step_seconds * _PASSES_OF_BATCH / passes

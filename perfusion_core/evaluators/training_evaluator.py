"""Evaluates a training: scores its state at fixed steps, and measures its concept at the end.

A failure in this module loses the evaluation but never the concept, because the training goes on as
it would without an evaluator.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from PIL import Image

from perfusion_core.callbacks import Check, RunOnDevice
from perfusion_core.concept import Concept
from perfusion_core.errors import Interrupted
from perfusion_core.evaluation.eval_prompts import curve_prompts, eval_schedule
from perfusion_core.evaluation.workload import batches_of, batches_of_curve
from perfusion_core.evaluators.concept_evaluator import ConceptEvaluator
from perfusion_core.evaluators.similarity import Evaluator
from perfusion_core.memory import free_memory, is_out_of_memory
from perfusion_core.training.trainer import Training

_log = logging.getLogger("perfusion.training")


class TrainingEvaluator:
    """Scores a training when a score is due, and measures the curve of its concept."""

    def __init__(
        self,
        training: Training,
        *,
        evaluator: Evaluator | None,
        pictures: Sequence[Image.Image],
        run_on_device: RunOnDevice,
        check: Check,
    ) -> None:
        """Measure nothing if `evaluator` is None."""
        self._training = training
        self._schedule = eval_schedule(training.config)
        self._has_scored = False
        self._concept_evaluator: ConceptEvaluator | None = None
        if evaluator is not None:
            self._attempt(
                lambda: self._begin(
                    evaluator, pictures=pictures, run_on_device=run_on_device, check=check
                )
            )
        training.watch(self._concept_evaluator.name if self._concept_evaluator else None)

    def evaluate_when_due(self) -> None:
        """Score the training's present state if a score is due."""
        training, evaluator = self._training, self._concept_evaluator
        if evaluator is None or not training.is_evaluation_due:
            return

        def score() -> None:
            found = evaluator.score(training.concept(), self._schedule.eval_prompts)
            training.record_score(found)
            self._has_scored = True
            _log.debug("training.scored", extra={"step": training.step, "score": round(found, 4)})

        self._attempt(score)
        if training.stopped_early:
            _log.info("training.stopped_early", extra={"step": training.step})

    @property
    def batches_left(self) -> int:
        """The batches of images of all evaluations to come, if the training does not stop early."""
        training = self._training
        if self._concept_evaluator is None:
            return 0
        last_step = training.step + training.steps_left
        scores = sum(training.step < step <= last_step for step in self._schedule.steps)
        scores += training.is_evaluation_due
        # The first score also draws the plain superclass.
        drawn = scores + (scores > 0 and not self._has_scored)
        return drawn * len(batches_of(self._schedule.eval_prompts)) + batches_of_curve(
            curve_prompts(training.config, steps=last_step)
        )

    def evaluated_concept(self) -> Concept:
        """Return the finished training's concept, with an operating curve if measuring succeeds."""
        training = self._training
        concept = training.best()
        evaluated = [concept]
        if (evaluator := self._concept_evaluator) is not None:
            eval_prompts = curve_prompts(training.config, steps=training.step)
            self._attempt(
                lambda: evaluated.append(
                    replace(concept, evaluation=evaluator.evaluate(concept, eval_prompts))
                )
            )
        return evaluated[-1]

    def _begin(
        self,
        evaluator: Evaluator,
        *,
        pictures: Sequence[Image.Image],
        run_on_device: RunOnDevice,
        check: Check,
    ) -> None:
        self._concept_evaluator = ConceptEvaluator(
            evaluator,
            self._training.base,
            pictures=pictures,
            superclass=self._training.superclass,
            run_on_device=run_on_device,
            check=check,
        )

    def _attempt(self, act: Callable[[], None]) -> None:
        try:
            act()
            return
        except Interrupted:
            raise
        except Exception as error:
            out_of_memory = is_out_of_memory(error)
            told = {"error": type(error).__name__}
            _log.warning("training.not_judged", extra=told, exc_info=True)
        self._concept_evaluator = None
        # Without all scores, the best of the scored states is not reliably better than the last
        # state.
        self._training.watch(None)
        if out_of_memory:
            # Memory is freed after the handler, because the error refers to the frames that hold
            # the memory.
            free_memory()

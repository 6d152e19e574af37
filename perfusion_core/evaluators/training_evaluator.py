"""Looking at a training: its state is scored at fixed steps, and its concept judged at the end.

Whatever goes wrong here costs the judgement and never the concept: the training then goes on, and
ends, as one that nobody looks at.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from PIL import Image

from perfusion_core.callbacks import Check, RunOnDevice
from perfusion_core.concept import Concept
from perfusion_core.errors import Interrupted
from perfusion_core.evaluation.eval_prompts import curve_prompts, eval_schedule
from perfusion_core.evaluators.concept_evaluator import ConceptEvaluator
from perfusion_core.evaluators.similarity import Evaluator
from perfusion_core.memory import free_memory, is_out_of_memory
from perfusion_core.training.trainer import Training

_log = logging.getLogger("perfusion.training")


class TrainingEvaluator:
    """Scores a training when it is due, and judges what came of it."""

    def __init__(
        self,
        training: Training,
        *,
        evaluator: Evaluator | None,
        pictures: Sequence[Image.Image],
        run_on_device: RunOnDevice,
        check: Check,
    ) -> None:
        """Without an evaluator nothing is judged."""
        self._training = training
        self._eval_prompts = eval_schedule(training.config).eval_prompts
        self._judge: ConceptEvaluator | None = None
        if evaluator is not None:
            self._attempt(
                lambda: self._begin(
                    evaluator, pictures=pictures, run_on_device=run_on_device, check=check
                )
            )
        training.watch(self._judge.name if self._judge else None)

    def evaluate_when_due(self) -> None:
        """Score the training as it is now, if it is time."""
        training, judge = self._training, self._judge
        if judge is None or not training.is_evaluation_due:
            return

        def look() -> None:
            score = judge.score(training.concept(), self._eval_prompts)
            training.record_score(score)
            _log.debug("training.scored", extra={"step": training.step, "score": round(score, 4)})

        self._attempt(look)
        if training.stopped_early:
            _log.info("training.stopped_early", extra={"step": training.step})

    def judged(self) -> Concept:
        """The concept of the finished training, with its operating curve if it can be made."""
        training = self._training
        concept = training.best()
        evaluated = [concept]
        if (judge := self._judge) is not None:
            eval_prompts = curve_prompts(training.config, steps=training.step)
            self._attempt(
                lambda: evaluated.append(
                    replace(concept, evaluation=judge.evaluate(concept, eval_prompts))
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
        self._judge = ConceptEvaluator(
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
        self._judge = None
        # A state that was best among a few looks is no better than the last one.
        self._training.watch(None)
        if out_of_memory:
            # Only here, where the error is gone, and with it the frames that hold the memory.
            free_memory()

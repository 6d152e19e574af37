"""Looking at a training: its state is scored at fixed steps, and its concept judged at the end.

Whatever goes wrong here costs the judgement and never the concept: the training then goes on, and
ends, as one that nobody looks at.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog
from PIL import Image

from perfusion_core.concept import Concept
from perfusion_core.evaluation.eval_prompts import curve_trials, looks
from perfusion_core.evaluators.similarity import Evaluator
from perfusion_core.training.trainer import Training
from worker.engine.device import TakeTurn, free_memory, is_out_of_memory
from worker.errors import Interrupted
from worker.judge import Judge
from worker.models.evaluators import Evaluators

_log = structlog.get_logger("perfusion.worker")


class Looking:
    """Scores a training when it is due, and judges what came of it."""

    def __init__(
        self,
        training: Training,
        *,
        take_turn: TakeTurn,
        evaluators: Evaluators | None,
        pictures: Sequence[Image.Image],
        check: Callable[[], None],
    ) -> None:
        """Without evaluators nothing is judged. `check` raises Interrupted where it is to stop."""
        self._training = training
        self._trials = looks(training.config).trials
        self._judge: Judge | None = None
        evaluator = None if evaluators is None else evaluators.beside(training.base)
        if evaluator is not None:
            self._attempt(
                lambda: self._begin(evaluator, take_turn=take_turn, pictures=pictures, check=check)
            )
        training.watch(self._judge.name if self._judge else None)

    def look_when_due(self) -> None:
        """Score the training as it is now, if it is time."""
        training, judge = self._training, self._judge
        if judge is None or not training.is_look_due:
            return

        def look() -> None:
            score = judge.score(training.concept(), self._trials)
            training.record_score(score)
            _log.debug("training.scored", step=training.step, score=round(score, 4))

        self._attempt(look)
        if training.stopped_early:
            _log.info("training.stopped_early", step=training.step)

    def judged(self) -> Concept:
        """The concept of the finished training, with its operating curve if it can be made."""
        training = self._training
        concept = training.best()
        evaluated = [concept]
        if (judge := self._judge) is not None:
            trials = curve_trials(training.config, steps=training.step)
            self._attempt(
                lambda: evaluated.append(
                    replace(concept, evaluation=judge.evaluate(concept, trials))
                )
            )
        return evaluated[-1]

    def _begin(
        self,
        evaluator: Evaluator,
        *,
        take_turn: TakeTurn,
        pictures: Sequence[Image.Image],
        check: Callable[[], None],
    ) -> None:
        self._judge = Judge(
            evaluator,
            self._training.base,
            pictures=pictures,
            superclass=self._training.superclass,
            take_turn=take_turn,
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
            _log.warning("training.not_judged", error=type(error).__name__, exc_info=True)
        self._judge = None
        # A state that was best among a few looks is no better than the last one.
        self._training.watch(None)
        if out_of_memory:
            # Only here, where the error is gone, and with it the frames that hold the memory.
            free_memory()

"""Track the best state of a training, and decide when it stops early.

An evaluator scores the training at the steps of its eval schedule (evaluation/eval_prompts.py).
Scores and best state are part of the training's saved state, so an interruption changes neither.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from perfusion_core.config import TrainConfig
from perfusion_core.evaluation.eval_prompts import eval_schedule

if TYPE_CHECKING:
    from torch import Tensor

PATIENCE = 3
"""A training ends after so many scores in a row that are no better."""

_PREFIX = "best."


class EarlyStopping:
    """Scores by step, and the parameters at the best of them; inactive until `watch`."""

    def __init__(self, config: TrainConfig) -> None:
        self._eval_steps = frozenset(eval_schedule(config).steps)
        self._judge: str | None = None
        self._scores: dict[int, float] = {}
        self._tensors: dict[str, Tensor] = {}

    def watch(self, judge: str | None) -> None:
        """Expect scores of `judge` from now on; forget another one's, which do not compare."""
        if judge != self._judge:
            self._judge, self._scores, self._tensors = judge, {}, {}

    def is_due(self, step: int) -> bool:
        """Return whether the state after `step` is to be scored before the training goes on."""
        wanted = self._judge is not None and step in self._eval_steps
        return wanted and step not in self._scores and not self.stopped

    def record(self, step: int, score: float, tensors: "Mapping[str, Tensor]") -> None:
        """Note the score of the state after `step`, and keep a copy of the best one."""
        if not self._scores or score > max(self._scores.values()):
            self._tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        self._scores[step] = score

    @property
    def step(self) -> int | None:
        """The step after which the state was best; None if no state was scored."""
        # The first of equal scores, as in record.
        return max(self._scores, key=lambda step: self._scores[step], default=None)

    @property
    def tensors(self) -> "Mapping[str, Tensor]":
        """The parameters of the best state."""
        return self._tensors

    @property
    def stopped(self) -> bool:
        """Whether the last scores were no better."""
        best = self.step
        return best is not None and sum(step > best for step in self._scores) >= PATIENCE

    def saved(self) -> "tuple[str, dict[str, Tensor]]":
        """Return all of it for a saved state: a text, and tensors under names of their own."""
        told = {"judge": self._judge, "scores": list(self._scores.items())}
        return json.dumps(told), {_PREFIX + name: tensor for name, tensor in self._tensors.items()}

    def restore(self, text: str, tensors: "Mapping[str, Tensor]") -> None:
        """Take back what `saved` gave; raises KeyError, ValueError or TypeError otherwise."""
        told = json.loads(text)
        self._judge = told["judge"]
        self._scores = {int(step): float(score) for step, score in told["scores"]}
        self._tensors = {
            name.removeprefix(_PREFIX): tensor
            for name, tensor in tensors.items()
            if name.startswith(_PREFIX)
        }

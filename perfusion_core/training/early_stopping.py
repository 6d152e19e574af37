"""Track the best state of a training, and decide when it stops early.

An evaluator scores the training at the steps of its eval schedule (evaluation/eval_prompts.py).
Scores and best state are part of the training's saved state, so an interruption does not change the
scores or the best state.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from perfusion_core.config import TrainConfig
from perfusion_core.evaluation.eval_prompts import eval_schedule

if TYPE_CHECKING:
    from torch import Tensor

PATIENCE = 3
"""A training stops after this many successive scores that are not better than the best score."""

_PREFIX = "best."


class EarlyStopping:
    """Scores by step, and the parameters at the best score; inactive until `watch`."""

    def __init__(self, config: TrainConfig) -> None:
        self._eval_steps = frozenset(eval_schedule(config).steps)
        self._evaluator: str | None = None
        self._scores: dict[int, float] = {}
        self._tensors: dict[str, Tensor] = {}

    def watch(self, evaluator: str | None) -> None:
        """Expect scores of `evaluator` from now on; discard the scores of any other evaluator."""
        if evaluator != self._evaluator:
            self._evaluator, self._scores, self._tensors = evaluator, {}, {}

    def is_due(self, step: int) -> bool:
        """Return whether the state after `step` must be scored before the training goes on."""
        wanted = self._evaluator is not None and step in self._eval_steps
        return wanted and step not in self._scores and not self.stopped

    def record(self, step: int, score: float, tensors: "Mapping[str, Tensor]") -> None:
        """Record the score of the state after `step`; copy `tensors` if the score is the best."""
        if not self._scores or score > max(self._scores.values()):
            self._tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        self._scores[step] = score

    @property
    def step(self) -> int | None:
        """The step after which the state was best; None if no state was scored."""
        # `max` returns the first of equal scores, as `record` does.
        return max(self._scores, key=lambda step: self._scores[step], default=None)

    @property
    def tensors(self) -> "Mapping[str, Tensor]":
        """The parameters of the best state."""
        return self._tensors

    @property
    def stopped(self) -> bool:
        """Return whether the last PATIENCE scores were not better than the best score."""
        best = self.step
        return best is not None and sum(step > best for step in self._scores) >= PATIENCE

    def saved(self) -> "tuple[str, dict[str, Tensor]]":
        """Return scores and best state for a saved state: a text, and tensors with unique names."""
        told = {"judge": self._evaluator, "scores": list(self._scores.items())}
        return json.dumps(told), {_PREFIX + name: tensor for name, tensor in self._tensors.items()}

    def restore(self, text: str, tensors: "Mapping[str, Tensor]") -> None:
        """Restore the result of `saved`; raises KeyError, ValueError or TypeError if damaged."""
        told = json.loads(text)
        self._evaluator = told["judge"]
        self._scores = {int(step): float(score) for step, score in told["scores"]}
        self._tensors = {
            name.removeprefix(_PREFIX): tensor
            for name, tensor in tensors.items()
            if name.startswith(_PREFIX)
        }

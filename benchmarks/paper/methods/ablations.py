"""Edit strategies that change the product in one thing each: the ablations of the paper."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from perfusion_core import BaseModel
from perfusion_core.attention import Layer
from perfusion_core.edit_strategy import APART, EditStrategy, locked_keys
from perfusion_core.encodings import superclass_encoding
from perfusion_core.rank_one import Decomposition, Metric, decompose


def _without_gate(
    e: Tensor, i: Tensor, *, metric: Metric, beta: Tensor, tau: Tensor
) -> Decomposition:
    edit = decompose(e, i, metric=metric, beta=beta, tau=tau)
    return replace(edit, gate=_similarities(e, i, metric))


def _removing_one_by_one(
    e: Tensor, i: Tensor, *, metric: Metric, beta: Tensor, tau: Tensor
) -> Decomposition:
    edit = decompose(e, i, metric=metric, beta=beta, tau=tau, apart=True)
    return replace(edit, e_perp=e - _similarities(e, i, metric) @ i.to(e))


def _without_edit(
    e: Tensor, i: Tensor, *, metric: Metric, beta: Tensor, tau: Tensor
) -> Decomposition:
    return Decomposition(e_perp=e, gate=e.new_zeros(*e.shape[:-1], len(i)))


def _similarities(e: Tensor, i: Tensor, metric: Metric) -> Tensor:
    """Equation (1) for each concept: (..., N, J)."""
    exact = i.detach().to(metric.factor)  # (J, d)
    a = metric.solve(exact)
    return e @ (a / (exact * a).sum(-1, keepdim=True)).to(e).T


NO_GATE = EditStrategy(_without_gate)
"""The plain rank-one edit, `W (e − sim(e) i*) + o* sim(e)`: β and τ change nothing."""

REMOVED_ONE_BY_ONE = EditStrategy(_removing_one_by_one)
"""Each concept's own projection is subtracted, as if the others were orthogonal to it."""

NO_EDIT = EditStrategy(_without_edit)
"""The word's own embedding alone: the frozen projections, as textual inversion has them."""


@dataclass(frozen=True)
class _KeysOpen(Decomposition):
    """An edit whose Keys follow the similarity alone, whatever the gate of the Values is."""

    sim: Tensor  # (..., N, J)
    keys: "UngatedKeys"

    def apply(self, W: Tensor, o: Tensor) -> Tensor:
        gate = self.sim if o is self.keys.last else self.gate
        return self.e_perp.to(W.dtype) @ W.T + gate.to(W.dtype) @ o.to(W.dtype)


class UngatedKeys:
    """The superclass's Key to the letter at the concept's own encoding; β dials the Values alone.

    The edit gives the Keys' outputs back to `apply`, which knows them by that.
    """

    last: Tensor | None = None

    @property
    def strategy(self) -> EditStrategy:
        """The strategy for one training or one image at a time."""
        return EditStrategy(self._decompose, self._locked)

    def _locked(self, layer: Layer, e_super: Tensor) -> Tensor:
        self.last = locked_keys(layer, e_super)
        return self.last

    def _decompose(
        self, e: Tensor, i: Tensor, *, metric: Metric, beta: Tensor, tau: Tensor
    ) -> Decomposition:
        edit = decompose(e, i, metric=metric, beta=beta, tau=tau, apart=True)
        return _KeysOpen(edit.e_perp, edit.gate, _similarities(e, i, metric), self)


class TrainedKeys:
    """One concept's o*_K (Σ d_l,), learned from where it is locked at the Values' rate."""

    def __init__(self, base: BaseModel, superclass: str, *, learning_rate: float) -> None:
        e_super = superclass_encoding(base, superclass)[None]  # (1, d)
        locked = [locked_keys(layer.to(e_super.dtype), e_super)[0] for layer in base.layers]
        self._o_k = torch.cat(locked).detach().requires_grad_()
        self._optimizer = torch.optim.AdamW([self._o_k], lr=learning_rate, weight_decay=0.0)

    @property
    def learning(self) -> EditStrategy:
        """The strategy of the training: its gradients reach these Keys."""
        return with_keys(self._o_k)

    def learned(self) -> Tensor:
        """Return these Keys as they are now."""
        return self._o_k.detach().clone()

    def step(self) -> None:
        """Follow the gradients of a training's step."""
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)


def with_keys(o_k: Tensor) -> EditStrategy:
    """Return the product's strategy with one concept's own Keys (Σ d_l,)."""

    def keys(layer: Layer, e_super: Tensor) -> Tensor:
        return o_k[None, layer.own]

    return replace(APART, keys=keys)

"""How concepts edit the Keys and Values, as an argument of training and sampling.

`APART`, the default, keeps the gates of several concepts apart (docs/decisions/0007).
`PUBLISHED` is equation (3) to the letter. Ablations pass a strategy of their own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Protocol

from torch import Tensor

from perfusion_core.attention import Layer
from perfusion_core.config import Gates
from perfusion_core.rank_one import Edit, Metric, decompose


class Decompose(Protocol):
    """Splits encodings into the concepts' gates and the part that no concept touches."""

    def __call__(self, e: Tensor, i: Tensor, *, metric: Metric, beta: Tensor, tau: Tensor) -> Edit:
        """Take e (..., N, d) and the target inputs i (J, d), as `rank_one.decompose` does."""


def locked_keys(layer: Layer, e_super: Tensor) -> Tensor:
    """Implements key locking (METHOD 4): `o*_K = W_K e_super`, (J, d) -> (J, d_l)."""
    return e_super @ layer.W_K.T


@dataclass(frozen=True)
class EditStrategy:
    """How encodings are split, and which Key outputs o*_K concepts have at a layer."""

    decompose: Decompose
    keys: Callable[[Layer, Tensor], Tensor] = locked_keys


APART = EditStrategy(partial(decompose, apart=True))
PUBLISHED = EditStrategy(decompose)

STRATEGIES: Mapping[Gates, EditStrategy] = MappingProxyType(
    {"apart": APART, "published": PUBLISHED}
)
"""What the option `gates` of a generation selects."""

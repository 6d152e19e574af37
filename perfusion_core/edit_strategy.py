"""Edit strategies, which define how concepts edit Keys and Values in training and sampling.

`APART`, the default, keeps the gates of several concepts apart (docs/decisions/0007). `PUBLISHED`
is exactly equation (3). Ablations pass other strategies.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Protocol

from torch import Tensor

from perfusion_core.attention import Layer
from perfusion_core.config import Gates
from perfusion_core.rank_one import Decomposition, Metric, decompose


class Decompose(Protocol):
    """A function that splits encodings into gates and the part that is orthogonal to all i*."""

    def __call__(
        self, e: Tensor, i: Tensor, *, metric: Metric, beta: Tensor, tau: Tensor
    ) -> Decomposition:
        """Split e (..., N, d) by the target inputs i (J, d), like `rank_one.decompose`."""


def locked_keys(layer: Layer, e_super: Tensor) -> Tensor:
    """Implement key locking (METHOD 4): `o*_K = W_K e_super`, (J, d) -> (J, d_l)."""
    return e_super @ layer.W_K.T


@dataclass(frozen=True)
class EditStrategy:
    """A pair of functions: one splits encodings, one computes the Key outputs o*_K of a layer."""

    decompose: Decompose
    keys: Callable[[Layer, Tensor], Tensor] = locked_keys


APART = EditStrategy(partial(decompose, apart=True))
PUBLISHED = EditStrategy(decompose)

STRATEGIES: Mapping[Gates, EditStrategy] = MappingProxyType(
    {"apart": APART, "published": PUBLISHED}
)
"""The strategies by the value of the generation option `gates`."""

"""How strongly a concept speaks: strength, the bias β behind it, and what is usual (METHOD 6).

A gate is `σ((sim − β) / τ)` and `sim` is 1 at the concept's own encoding, so the strength, the
gate's value there, is `s = σ((1 − β) / τ)`, which gives `β = 1 − τ · logit(s)`. What a concept
trades for its likeness is spaced evenly in β and not in s: β = 0.9 to 0.3 is s = 0.66 to 0.99.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

from perfusion_core.config import Locking

DEFAULT_TAU = 0.15
"""Temperature of a gate at inference (paper, section 5)."""

DEFAULT_BETA: Mapping[Locking, float] = MappingProxyType({"local": 0.7, "global": 0.5})
"""The bias of a concept whose strength nobody chose and no curve recommends. Global locking takes
every Key from the superclass's prompt, so that its range lies lower (METHOD 6)."""

STRENGTH_DIGITS = 4
"""Decimals of a strength that is written down: they bring β back to within 0.005 from 0.9 to 0.3,
where two would leave the upper half of the range unreachable."""


def beta_from_strength(strength: float, tau: float = DEFAULT_TAU) -> float:
    """The bias β at which the gate at the concept's own encoding has the value `strength`.

    Raises ValueError unless 0 < strength < 1: the gate is a sigmoid and reaches neither end.
    """
    if not 0.0 < strength < 1.0:
        raise ValueError("A strength must lie between 0 and 1, both excluded.")
    return 1.0 - tau * math.log(strength / (1.0 - strength))


def strength_from_beta(beta: float, tau: float = DEFAULT_TAU) -> float:
    """The value of the gate at the concept's own encoding: the inverse of beta_from_strength."""
    return 1.0 / (1.0 + math.exp((beta - 1.0) / tau))


def default_beta(locking: Locking, *, recommended_strength: float | None) -> float:
    """The bias β, at DEFAULT_TAU, of a concept for which a request names no strength.

    With local locking it is that of the strength which the concept's curve recommends. A curve is
    made with local locking, so it says nothing about global locking.
    """
    if locking == "local" and recommended_strength is not None:
        return beta_from_strength(recommended_strength)
    return DEFAULT_BETA[locking]

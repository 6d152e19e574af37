"""A concept's strength, the bias β behind it, and their defaults (METHOD 6).

A gate is `σ((sim − β) / τ)`, and `sim` is 1 at the concept's own encoding. The strength s is the
gate's value at this encoding, `s = σ((1 − β) / τ)`, so `β = 1 − τ · logit(s)`. The trade-off
between similarity to the pictures and similarity to the prompt changes evenly with β and not with
s: β = 0.9 to 0.3 corresponds to s = 0.66 to 0.99.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

from perfusion_core.config import Locking

DEFAULT_TAU = 0.15
"""The temperature of a gate at inference (paper, section 5)."""

DEFAULT_BETA: Mapping[Locking, float] = MappingProxyType({"local": 0.7, "global": 0.5})
"""The bias of a concept if neither the request nor the concept's curve gives a strength. Global
locking takes every Key from the superclass's prompt, so its range of biases is lower (METHOD 6)."""

STRENGTH_DIGITS = 4
"""The number of decimals of a written strength. For β from 0.9 to 0.3, four decimals reproduce β to
within 0.005; two decimals could not express the strengths of the upper half of the range."""

_LARGEST_EXPONENT = 700.0  # math.exp raises OverflowError a little above


def beta_from_strength(strength: float, tau: float = DEFAULT_TAU) -> float:
    """Return the bias β at which the gate at the concept's own encoding has the value `strength`.

    Raises ValueError unless 0 < strength < 1, since the gate is a sigmoid and is never 0 or 1.
    """
    if not 0.0 < strength < 1.0:
        raise ValueError("A strength must lie between 0 and 1, both excluded.")
    return 1.0 - tau * math.log(strength / (1.0 - strength))


def strength_from_beta(beta: float, tau: float = DEFAULT_TAU) -> float:
    """Return the gate's value at the concept's own encoding, the inverse of beta_from_strength."""
    return 1.0 / (1.0 + math.exp(min((beta - 1.0) / tau, _LARGEST_EXPONENT)))


def default_beta(locking: Locking, *, recommended_strength: float | None) -> float:
    """Return the bias β, at DEFAULT_TAU, of a concept for which a request names no strength.

    With local locking the returned bias belongs to the strength that the concept's curve
    recommends. With global locking the curve is ignored, because curves are measured with local
    locking.
    """
    if locking == "local" and recommended_strength is not None:
        return beta_from_strength(recommended_strength)
    return DEFAULT_BETA[locking]

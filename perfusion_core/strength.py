"""The user's dial: the value of a concept's gate at the concept's own encoding (METHOD 6).

A gate is `σ((sim − β) / τ)` and `sim` is 1 at the concept's own encoding, so the strength is
`s = σ((1 − β) / τ)`, which gives `β = 1 − τ · logit(s)`.
"""

import math

DEFAULT_TAU = 0.15
"""Temperature of a gate at inference (paper, section 5)."""

DEFAULT_STRENGTH = 0.88
"""What a placeholder without a number means: β = 0.70 at the default temperature."""


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

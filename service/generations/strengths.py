"""How strongly a concept speaks: strengths and raw values become the gate's beta and tau."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from perfusion_core.config import Locking
from perfusion_core.strength import DEFAULT_TAU, beta_from_strength, default_beta
from service.errors import invalid

MAX_CONCEPTS = 16
_MAX_BETA = 10.0
_MAX_TAU = 10.0


@dataclass(frozen=True, kw_only=True)
class ConceptChoice:
    """Explicit values for a concept of the prompt: a strength, or beta (and tau)."""

    name: str | None = None
    id: str | None = None
    strength: float | None = None
    beta: float | None = None
    tau: float | None = None


@dataclass(frozen=True)
class Gate:
    """Bias and temperature of a concept's gate."""

    beta: float
    tau: float


def gate_of_strength(strength: float) -> Gate:
    """Return the gate of a strength; it means the same with either locking."""
    return Gate(beta=beta_from_strength(strength), tau=DEFAULT_TAU)


def default_gate(locking: Locking, *, recommended_strength: float | None) -> Gate:
    """Return the gate of a concept for which a request names no strength."""
    beta = default_beta(locking, recommended_strength=recommended_strength)
    return Gate(beta=beta, tau=DEFAULT_TAU)


def explicit_gates(choices: Sequence[ConceptChoice]) -> list[Gate | None]:
    """Return the gate that each entry asks for; None where it leaves that to the prompt."""
    if len(choices) > MAX_CONCEPTS:
        raise invalid("/concepts", f"A request may list {MAX_CONCEPTS} concepts at most.")
    return [_gate(choice, pointer=f"/concepts/{k}") for k, choice in enumerate(choices)]


def _gate(choice: ConceptChoice, *, pointer: str) -> Gate | None:
    """Return the explicit gate of one entry; None where it says nothing about it."""
    if (choice.name is None) == (choice.id is None):
        raise invalid(pointer, "Say which concept this is, by name or by id (not both).")
    raw = {"beta": choice.beta, "tau": choice.tau}
    given = [name for name, value in raw.items() if value is not None]
    if choice.strength is not None:
        if given:
            raise invalid(
                f"{pointer}/{given[0]}",
                "Give either strength, or beta and tau: strength already stands for both.",
            )
        strength = _number(choice.strength, pointer=f"{pointer}/strength")
        if not 0 < strength < 1:
            raise invalid(
                f"{pointer}/strength",
                "A strength lies between 0 and 1, both excluded, for example 0.9.",
            )
        return gate_of_strength(strength)
    if not given:
        return None
    if choice.beta is None:
        raise invalid(f"{pointer}/tau", "tau needs a beta beside it. Add one, or use strength.")
    beta = _number(choice.beta, pointer=f"{pointer}/beta")
    tau = DEFAULT_TAU if choice.tau is None else _number(choice.tau, pointer=f"{pointer}/tau")
    if not -_MAX_BETA <= beta <= _MAX_BETA:
        raise invalid(f"{pointer}/beta", f"beta lies between {-_MAX_BETA:g} and {_MAX_BETA:g}.")
    if not 0 < tau <= _MAX_TAU:
        raise invalid(f"{pointer}/tau", f"tau lies between 0 (excluded) and {_MAX_TAU:g}.")
    return Gate(beta=beta, tau=tau)


def _number(value: object, *, pointer: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise invalid(pointer, "This must be a number.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise invalid(pointer, "This must be a finite number.")
    return number

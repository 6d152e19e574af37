"""Convert strengths and explicit values to the bias (beta) and temperature (tau) of a gate."""

from collections.abc import Sequence
from dataclasses import dataclass

from perfusion_core.config import Locking
from perfusion_core.strength import DEFAULT_TAU, beta_from_strength, default_beta
from service.errors import invalid
from service.generations.requests import ConceptChoice


@dataclass(frozen=True)
class Gate:
    """Bias and temperature of a concept's gate."""

    beta: float
    tau: float


def gate_of_strength(strength: float) -> Gate:
    """Return the gate of a strength; a strength has the same meaning with either locking."""
    return Gate(beta=beta_from_strength(strength), tau=DEFAULT_TAU)


def default_gate(locking: Locking, *, recommended_strength: float | None) -> Gate:
    """Return the gate of a concept for which a request names no strength."""
    beta = default_beta(locking, recommended_strength=recommended_strength)
    return Gate(beta=beta, tau=DEFAULT_TAU)


def explicit_gates(choices: Sequence[ConceptChoice]) -> list[Gate | None]:
    """Return the explicit gate of each entry; None if the entry leaves the gate to the prompt."""
    return [_gate(choice, pointer=f"/concepts/{k}") for k, choice in enumerate(choices)]


def _gate(choice: ConceptChoice, *, pointer: str) -> Gate | None:
    """Return the explicit gate of one entry; None if the entry sets neither strength nor beta."""
    if (choice.name is None) == (choice.id is None):
        raise invalid(pointer, "Say which concept this is, by name or by id (not both).")
    if choice.strength is not None:
        given = [name for name in ("beta", "tau") if getattr(choice, name) is not None]
        if given:
            raise invalid(
                f"{pointer}/{given[0]}",
                "Give either strength, or beta and tau: strength already stands for both.",
            )
        return gate_of_strength(choice.strength)
    if choice.beta is None:
        if choice.tau is None:
            return None
        raise invalid(f"{pointer}/tau", "tau is valid only with beta. Add a beta, or use strength.")
    return Gate(beta=choice.beta, tau=DEFAULT_TAU if choice.tau is None else choice.tau)

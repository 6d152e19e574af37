"""Read gates from a command line (`--beta rex=0.6 --tau rex=0.1`) by the server's rules."""

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from api.cli.errors import CommandError
from service.field_problems import rule
from service.generations.requests import ConceptChoice
from service.generations.strengths import Gate, explicit_gates


def read_gates(
    betas: Sequence[str], taus: Sequence[str], *, names: Sequence[str]
) -> dict[str, Gate]:
    """Return the gates that `--beta` and `--tau` set, by the names of the prompt's concepts.

    Raise CommandError with a sentence if a value is not NAME=NUMBER, names no concept of the
    prompt, is given twice, is out of bounds, or is a tau without a beta.
    """
    beta_of = _numbers("--beta", betas, names=names)
    tau_of = _numbers("--tau", taus, names=names)
    if alone := next((name for name in tau_of if name not in beta_of), None):
        raise CommandError(f"--tau {alone} also needs a bias: add --beta {alone}=0.6.")
    gates = {}
    for name, beta in beta_of.items():
        try:
            choice = ConceptChoice(name=name, beta=beta, tau=tau_of.get(name))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise CommandError(f"--{first['loc'][0]} {name} {rule(first)}.") from None
        (gate,) = explicit_gates([choice])
        assert gate is not None  # a choice with a beta has a gate
        gates[name] = gate
    return gates


def _numbers(option: str, written: Sequence[str], *, names: Sequence[str]) -> Mapping[str, float]:
    numbers: dict[str, float] = {}
    for text in written:
        name, equals, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise CommandError(f"{option} takes NAME=NUMBER, such as rex=0.6, not {text!r}.")
        name = name.strip().removeprefix("<").removesuffix(">")
        if name not in names:
            raise CommandError(
                f"{option} names <{name}>, which is not in the prompt: write it into the prompt."
            )
        if name in numbers:
            raise CommandError(f"{option} {name} is given twice. Keep one.")
        numbers[name] = number
    return numbers

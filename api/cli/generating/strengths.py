"""Read what a command line says of concepts' gates (`--beta rex=0.6 --tau rex=0.1`)."""

from collections.abc import Collection, Mapping, Sequence

from pydantic import ValidationError

from api.cli.errors import CommandError
from service.field_problems import rule
from service.generations.requests import ConceptChoice


def read_choices(
    betas: Sequence[str], taus: Sequence[str], *, names: Collection[str]
) -> list[ConceptChoice]:
    """Return the choices that `--beta` and `--tau` make among concepts, by the server's rules.

    Raise CommandError with a sentence if a value is not NAME=NUMBER, is of none of the concepts,
    is given twice, is out of bounds, or is a tau without a beta.
    """
    beta_of = _numbers("--beta", betas, names=names)
    tau_of = _numbers("--tau", taus, names=names)
    if alone := next((name for name in tau_of if name not in beta_of), None):
        raise CommandError(f"--tau {alone} also needs a bias: add --beta {alone}=0.6.")
    choices = []
    for name, beta in beta_of.items():
        try:
            choices.append(ConceptChoice(name=name, beta=beta, tau=tau_of.get(name)))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise CommandError(f"--{first['loc'][0]} {name} {rule(first)}.") from None
    return choices


def _numbers(option: str, written: Sequence[str], *, names: Collection[str]) -> Mapping[str, float]:
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

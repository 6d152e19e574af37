"""Options of training and generation, checked against the method's own configuration classes.

Defaults and bounds live in perfusion_core.config alone.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from perfusion_core.config import GenerateConfig, TrainConfig, too_large
from service.errors import FieldProblem, Invalid
from service.field_problems import field_problems

C = TypeVar("C", TrainConfig, GenerateConfig)


def whole_numbers(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as they are, but 20 for 20.0, which JSON Schema calls an integer."""
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in given.items()
    }


def known_defaults(kind: type[C], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a base model's defaults that this release knows.

    A worker of a newer release may have registered others; it puts its own under every request.
    """
    try:
        kind(**defaults)
    except ValidationError as error:
        unknown = {item["loc"][0] for item in error.errors(include_url=False) if item["loc"]}
        return {name: value for name, value in defaults.items() if name not in unknown}
    return dict(defaults)


def check(
    kind: type[C],
    given: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any],
    resolution: int | None,
    pointer: str,
) -> C:
    """Return the configuration of `given` over the base model's `defaults`, or raise Invalid.

    `resolution` is the base model's side, where it is known: it bounds the options of size.
    `pointer` is where the options lie in the request: `/training`, or empty for the body itself.
    """
    try:
        config = kind(**{**defaults, **whole_numbers(given)})
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        # A name that is no Unicode has no place.
        placed = ({**item, "loc": item["loc"] or ("",)} for item in found)
        raise Invalid(field_problems(placed, under=pointer)) from None
    wrong = too_large(config, resolution=resolution) if resolution else {}
    if wrong:
        raise Invalid([FieldProblem(f"{pointer}/{name}", why) for name, why in wrong.items()])
    return config

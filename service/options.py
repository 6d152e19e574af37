"""Options of training and generation, checked against the method's own configuration classes.

Defaults and bounds live in perfusion_core.config alone; here a wrong option becomes a sentence
with the pointer of its field.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from perfusion_core.config import GenerateConfig, TrainConfig, too_large
from service.errors import FieldProblem, Invalid

C = TypeVar("C", TrainConfig, GenerateConfig)
_SENTENCES = {
    "unexpected_keyword_argument": "There is no such option.",
    "finite_number": "This must be a finite number.",
    "string_type": "This must be text.",
    "bool_type": "This must be true or false.",
}


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
        raise Invalid(
            [
                FieldProblem(f"{pointer}/{_escaped(item['loc'])}", _sentence(item))
                for item in error.errors(include_url=False, include_input=False)
            ]
        ) from None
    wrong = too_large(config, resolution=resolution) if resolution else {}
    if wrong:
        raise Invalid([FieldProblem(f"{pointer}/{name}", why) for name, why in wrong.items()])
    return config


def _escaped(location: tuple[int | str, ...]) -> str:
    name = str(location[0]) if location else ""
    # A caller may name an option anything; what cannot be sent back as text is replaced.
    safe = name[:100].encode(errors="replace").decode()
    return safe.replace("~", "~0").replace("/", "~1")


def _plain(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def _sentence(item: Any) -> str:
    if item["type"] in _SENTENCES:
        return _SENTENCES[item["type"]]
    context = item.get("ctx", {})
    match item["type"]:
        case "greater_than_equal":
            return f"This must be at least {_plain(context['ge'])}."
        case "greater_than":
            return f"This must be more than {_plain(context['gt'])}."
        case "less_than_equal":
            return f"This must be at most {_plain(context['le'])}."
        case "less_than":
            return f"This must be less than {_plain(context['lt'])}."
        case "multiple_of":
            return f"This must be a multiple of {_plain(context['multiple_of'])}."
        case "literal_error":
            return f"This must be one of {context['expected'].replace(' or ', ', ')}."
        case "int_type" | "int_from_float" | "int_parsing_size":
            return "This must be a whole number."
        case "float_type":
            return "This must be a number."
        case "string_too_long":
            return f"This may have {context['max_length']} characters at most."
    return f"{item['msg']}."

"""Turn pydantic's findings into our sentences, for bodies, options, settings and commands.

A sentence states the rule and never repeats the input. `rule` returns a phrase without a subject,
because the subject differs. The subject is "this" for a body's field, the variable for a setting,
and the name for an option.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from service.errors import FieldProblem

_MOST: Final = 20
_MAX_KEY_LENGTH: Final = 64
_NO_SUCH_FIELD: Final = "There is no such field."
_SENTENCES: Final = {
    "extra_forbidden": _NO_SUCH_FIELD,
    "unexpected_keyword_argument": _NO_SUCH_FIELD,
    "missing": "This field is required.",
    "box": "A box is [x, y, width, height] in whole pixels.",
}
_WHOLE_NUMBER: Final = "must be a whole number"
_NUMBER: Final = "must be a number"
_TRUE_OR_FALSE: Final = "must be true or false"
_OBJECT: Final = "must be an object"
_RULES: Final = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "literal_error": "must be one of {expected}",
    "enum": "must be one of {expected}",
    "int_type": _WHOLE_NUMBER,
    "int_from_float": _WHOLE_NUMBER,
    "int_parsing": _WHOLE_NUMBER,
    "int_parsing_size": _WHOLE_NUMBER,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "must be a finite number",
    "bool_type": _TRUE_OR_FALSE,
    "bool_parsing": _TRUE_OR_FALSE,
    "string_type": "must be text",
    "string_unicode": "must be valid Unicode",
    "string_too_long": "may have {max_length} characters at most",
    "string_too_short": "must have {min_length} characters at least",
    "string_pattern_mismatch": "must match {pattern}",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "too_long": "may have {max_length} items at most",
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "dict_type": _OBJECT,
}


def field_problems(found: Iterable[Mapping[str, Any]], *, under: str = "") -> list[FieldProblem]:
    """Return pydantic's findings as pointers and sentences; `under` is the value's own pointer."""
    return [
        FieldProblem(under + pointer(item["loc"]), _sentence(item)) for item in list(found)[:_MOST]
    ]


def pointer(location: Sequence[str | int]) -> str:
    """Return the JSON pointer of a place: `("concepts", 0, "id")` is `/concepts/0/id`."""
    return "".join(f"/{_key(part)}" for part in location)


def rule(item: Mapping[str, Any]) -> str:
    """Return the rule that a value breaks: `must be at least 1`."""
    template = _RULES.get(item["type"])
    if template is None:
        return f"is not valid: {item['msg']}"
    return template.format_map({key: _plain(value) for key, value in item.get("ctx", {}).items()})


def _sentence(item: Mapping[str, Any]) -> str:
    return _SENTENCES.get(item["type"]) or f"This {rule(item)}."


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).replace(" or ", ", ")  # between the words that a Literal allows


def _key(part: str | int) -> str:
    # Names of unknown fields come from the caller. So their length is limited, and lone surrogates
    # are replaced, because JSON cannot carry them as UTF-8.
    text = str(part)[:_MAX_KEY_LENGTH].encode("utf-8", "replace").decode("utf-8")
    return text.replace("~", "~0").replace("/", "~1")

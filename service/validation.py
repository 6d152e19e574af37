"""Check text from outside: refuse with a sentence any text that cannot be stored and sent on."""

import json
import re
import unicodedata
from typing import Any

from perfusion_core.config import MAX_PROMPT_LENGTH
from perfusion_core.text.prompt import NAME_PATTERN
from service.errors import invalid

_MAX_SUPERCLASS_LENGTH = 60
_MAX_SUPERCLASS_WORDS = 3
_MAX_JSON_DEPTH = 16


def check_text(value: object, *, pointer: str, max_length: int | None = None) -> str:
    """Return `value` as NFC text; raise Invalid if a database or tokenizer could not accept it."""
    if not isinstance(value, str):
        raise invalid(pointer, "This must be text.")
    if max_length is not None and len(value) > max_length:
        raise invalid(pointer, f"This may have {max_length} characters at most.")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise invalid(
            pointer, "This holds half of a surrogate pair, which is no character. Remove it."
        )
    if any(unicodedata.category(c) == "Cc" and c not in "\t\n\r" for c in value):
        raise invalid(pointer, "This holds a control character (such as NUL). Remove it.")
    return unicodedata.normalize("NFC", value)


def check_prompt(value: object, *, pointer: str) -> str:
    """Return a prompt that is not blank."""
    text = check_text(value, pointer=pointer, max_length=MAX_PROMPT_LENGTH)
    if not text.strip():
        raise invalid(pointer, "The prompt is empty. Describe the image that you want.")
    return text


def check_name(value: object, *, pointer: str = "/name") -> str:
    """Return a valid concept name."""
    if not isinstance(value, str) or not re.fullmatch(NAME_PATTERN, value):
        raise invalid(
            pointer,
            "A name is 1 to 63 lower-case letters, digits and hyphens and does not begin with "
            "a hyphen, for example red-teapot.",
        )
    return value


def check_superclass(value: object, *, pointer: str = "/superclass") -> str:
    """Return a superclass: 1 to 3 words, separated by single spaces."""
    text = check_text(value, pointer=pointer, max_length=_MAX_SUPERCLASS_LENGTH * 4)
    words = text.split()
    if not 1 <= len(words) <= _MAX_SUPERCLASS_WORDS:
        raise invalid(
            pointer,
            f"The superclass is 1 to {_MAX_SUPERCLASS_WORDS} words for the kind of thing, "
            f"for example teddy bear; this has {len(words)}.",
        )
    joined = " ".join(words)
    if len(joined) > _MAX_SUPERCLASS_LENGTH:
        raise invalid(
            pointer, f"The superclass may have {_MAX_SUPERCLASS_LENGTH} characters at most."
        )
    if not all(_is_word(word) for word in words):
        raise invalid(
            pointer, "A word of the superclass consists of letters, digits, - and ' only."
        )
    return joined


def is_storable(value: Any, *, depth: int = 0) -> bool:
    """Return whether a JSON value from a file can be stored: finite, no NUL, not too deep."""
    if depth > _MAX_JSON_DEPTH:
        return False
    if isinstance(value, dict):
        items = list(value.keys()) + list(value.values())
        return all(is_storable(item, depth=depth + 1) for item in items)
    if isinstance(value, list):
        return all(is_storable(item, depth=depth + 1) for item in value)
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (ValueError, TypeError):
        return False
    return "\\u0000" not in text


def _is_word(word: str) -> bool:
    has_letter = any(character.isalpha() for character in word)
    return has_letter and all(c.isalnum() or c in "-'’" or unicodedata.combining(c) for c in word)

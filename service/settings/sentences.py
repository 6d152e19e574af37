"""The sentences about a wrong environment: variable, problem, and a value to write instead."""

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

from service.field_problems import rule

PREFIX = "PERFUSION_"
# The pattern of a value, and the sentence for a value that does not match the pattern.
FORMS = {
    "database_url": (
        r"(sqlite:///|postgresql\+psycopg://).",
        "its scheme is not one of sqlite:/// and postgresql+psycopg://",
    ),
    "blobs_url": (
        r"file:.|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]|sql:\Z",
        "it is none of file:FOLDER, s3://BUCKET/PREFIX and sql:",
    ),
    "queue_url": (
        r"memory://\Z|rediss?://.",
        "its scheme is not one of memory://, redis:// and rediss://",
    ),
    "s3_endpoint_url": (r"https?://.", "it does not start with http:// or https://"),
    "device": (r"(auto|cpu|mps|cuda(:\d+)?)\Z", "it is no device"),
}
# The package that a scheme needs, if it belongs to the extra `server`.
DRIVERS = {"postgresql": "psycopg", "s3": "boto3"}


def variable_of(name: str) -> str:
    """Return the environment variable of a setting: `lease_seconds` is PERFUSION_LEASE_SECONDS."""
    return PREFIX + name.upper()


def misspelt(environment: Mapping[str, str], fields: Mapping[str, FieldInfo]) -> list[str]:
    """Return a sentence for each variable whose name is nearly the name of a setting."""
    known = [variable_of(name) for name in fields]
    sentences = []
    for variable in sorted(environment):
        if not variable.startswith(PREFIX) or variable in known:
            continue
        # Report only near misses, because other programs may use the same prefix.
        nearest = difflib.get_close_matches(variable, known, n=1, cutoff=0.88)
        if nearest:
            sentences.append(f"{variable} is not a setting. Write {nearest[0]} instead.")
    return sentences


def sentence(error: Any, *, given: str | None, field: FieldInfo) -> str:
    """Return what is wrong with a value; `given` is None if the value may be a secret."""
    variable = variable_of(str(error["loc"][0]))
    repeated = "" if given is None else f" {given!r}"
    return f"{variable} has a wrong value{repeated}: {_reason(error)}. {_advice(field)}"


def _reason(error: Any) -> str:
    # The validators of these settings write their own sentences.
    return str(error["ctx"]["error"]) if error["type"] == "value_error" else f"it {rule(error)}"


def _advice(field: FieldInfo) -> str:
    examples = " or ".join(str(example) for example in field.examples or [])
    meaning = (field.description or "").rstrip(".")
    return f"Set it to something like {examples} ({meaning})."

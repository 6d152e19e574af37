"""Ids: opaque strings with an underscore, which a concept's name never has."""

import re
import uuid


def new_id(kind: str) -> str:
    """Return a fresh random id such as `job_6f1c...`."""
    return f"{kind}_{uuid.uuid4().hex}"


def is_plausible(value: str) -> bool:
    """Return whether `value` could be an id or a name; only such values reach the database."""
    return re.fullmatch(r"[A-Za-z0-9_-]{1,100}", value) is not None

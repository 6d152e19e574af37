"""Ids: opaque strings that can never be taken for a concept's name (those hold no underscore)."""

import re
import uuid


def new_id(kind: str) -> str:
    """Return a fresh random id such as `job_6f1c...`."""
    return f"{kind}_{uuid.uuid4().hex}"


def is_plausible(value: str) -> bool:
    """Whether `value` could be an id or a name at all; a database need not see anything else."""
    return re.fullmatch(r"[A-Za-z0-9_-]{1,100}", value) is not None

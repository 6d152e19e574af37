"""The base of views: what use cases return, and what the API serves and describes in OpenAPI.

A view is built inside the session and holds plain values, so nothing reads the database through it
later. Each subject has its own: `jobs/views.py`, `concepts/views.py`. `to_json` is the one place
that writes them: answers, and the first answers kept for idempotency keys, cannot differ.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict


class View(BaseModel):
    """What a use case returns; a later release may add optional fields."""

    model_config = ConfigDict(frozen=True)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready data; times are RFC 3339 in UTC."""
        return self.model_dump(mode="json")


def is_none(value: object) -> bool:
    """Whether a field has no value; `exclude_if=is_none` leaves such a field out of the JSON."""
    return value is None

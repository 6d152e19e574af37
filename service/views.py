"""The base of views: use cases return views; the API serves and describes views in OpenAPI.

A view is built inside the session and contains plain values, so that the view never reads the
database later. Each subject has its own module of views: `jobs/views.py`, `concepts/views.py`. Only
`to_json` writes views as JSON, so a repeated answer of an idempotency key cannot differ from the
first one.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict


class View(BaseModel):
    """The base of the views that use cases return; a later release may add optional fields."""

    model_config = ConfigDict(frozen=True)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready data; times are RFC 3339 in UTC."""
        return self.model_dump(mode="json")


def is_none(value: object) -> bool:
    """Return whether a field is None; `exclude_if=is_none` leaves such a field out of the JSON."""
    return value is None

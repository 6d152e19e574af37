"""Rename a concept, and describe it.

The concept's file keeps the name inside it, and its hash. Queued jobs go on as they are: their
payloads have the concept's id and the name in their prompt, and a worker gives the concept that it
reads from the file the name of the prompt.
"""

from datetime import datetime
from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints
from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from perfusion_core.text.prompt import NAME_PATTERN
from service.concepts import rows
from service.concepts.views import MAX_DESCRIPTION_LENGTH, ConceptView
from service.database.tables import ConceptRow
from service.options import Inbound
from service.validation import check_text
from service.wiring import Service


class ConceptChanges(Inbound):
    """What changes about a concept; a field that is left out stays as it is."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"description": "My old teddy."}]})

    # Without a default in the schema, because a name that is left out stays.
    name: Annotated[
        str,
        StringConstraints(pattern=f"^{NAME_PATTERN}$", max_length=63),
        Field(description="`<name>` will be its placeholder.", examples=["rex"]),
    ] = Field(default_factory=str)
    description: Annotated[
        str | None,
        Field(max_length=MAX_DESCRIPTION_LENGTH, description="Any text; null removes it."),
    ] = None


def change(service: Service, owner_id: str, *, ref: str, changes: ConceptChanges) -> ConceptView:
    """Change a concept; raise Conflict if another concept of its owner has the name."""
    given = changes.model_dump(exclude_unset=True)
    if given.get("description") is not None:
        text = check_text(given["description"], pointer="/description")
        given["description"] = text.strip() or None

    def act(connection: Connection, now: datetime) -> ConceptView:
        session = Session(connection, expire_on_commit=False)
        concept = rows.lock(session, rows.find(session, owner_id, ref=ref))
        if given.get("name", concept.name) != concept.name:
            named = (ConceptRow.owner_id == owner_id, ConceptRow.name == given["name"])
            other = session.scalar(select(ConceptRow).where(*named))
            if other is not None:
                raise rows.name_taken(other)
        for field, value in given.items():
            setattr(concept, field, value)
        session.flush()
        return rows.view(concept)

    return service.database.run(act)

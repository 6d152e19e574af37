"""What all tables share: the names of constraints, and the types of columns."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, MetaData
from sqlalchemy.orm import DeclarativeBase

from service.database.columns import UtcDateTime, choice
from service.statuses import ConceptStatus, JobStatus, Queue

ID_LENGTH = 48
# Not JSONB: a repeated answer must keep the order of its fields.
Json = JSON()


class Base(DeclarativeBase):
    """Names every constraint, and stores every `datetime` as UTC."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012
        datetime: UtcDateTime(),
        dict[str, Any]: Json,
        list[str]: Json,
        Queue: choice(Queue, name="jobkind"),
        JobStatus: choice(JobStatus),
        ConceptStatus: choice(ConceptStatus),
    }

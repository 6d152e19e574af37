"""The conditions of a search for images.

A search goes through an owner's images from the newest on, and compares two columns of each row:
the prompt, and the concepts of the prompt. `python -m benchmarks.servers.images` measures that this
is fast enough for 100,000 images. The previous release leaves both columns empty; then the payload
of the image's job is compared.
"""

from sqlalchemy import ColumnElement, Text, and_, cast, exists, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from service.database.tables import ConceptRow, ImageRow, JobRow
from service.errors import invalid
from service.ids import is_plausible
from service.validation import check_text

MAX_QUERY_LENGTH = 200


def with_text(query: str) -> ColumnElement[bool]:
    """Return the condition that the prompt contains `query`, in upper or lower case."""
    text = check_text(query, pointer="/q", max_length=MAX_QUERY_LENGTH).casefold()
    prompt = func.lower(JobRow.payload["prompt"].as_string())
    return _either(
        ImageRow.searched_prompt,
        ImageRow.searched_prompt.contains(text, autoescape=True),
        prompt.contains(text, autoescape=True),
    )


def with_concept(session: Session, owner_id: str, *, ref: str) -> ColumnElement[bool]:
    """Return the condition that the prompt has a concept with the id or name `ref`.

    The name may be the present one, or the one that the concept had when the image was requested.
    """
    if not is_plausible(ref):
        raise invalid("/concept", "This is neither the id nor the name of a concept.")
    named = (ConceptRow.owner_id == owner_id, ConceptRow.name == ref)
    concept_id = session.scalar(select(ConceptRow.id).where(*named))
    refs = [ref] if concept_id is None else [ref, concept_id]
    payload = cast(JobRow.payload, Text)
    return _either(
        ImageRow.concept_refs,
        or_(*(_holds(cast(ImageRow.concept_refs, Text), f'"{each}"') for each in refs)),
        or_(*(_holds(payload, f'"{key}": "{each}"') for each in refs for key in ("id", "name"))),
    )


def _either(
    column: InstrumentedAttribute[str | None] | InstrumentedAttribute[list[str] | None],
    of_image: ColumnElement[bool],
    of_job: ColumnElement[bool],
) -> ColumnElement[bool]:
    fallback = exists().where(JobRow.id == ImageRow.job_id, of_job)
    return or_(of_image, and_(column.is_(None), fallback))


def _holds(text: ColumnElement[str], part: str) -> ColumnElement[bool]:
    return text.contains(part, autoescape=True)

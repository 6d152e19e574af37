"""Placeholders that name no concept, and the names that the caller probably meant.

The search takes longer than a write transaction should, so the search runs after the transaction.
The search takes a few milliseconds at most, however many concepts and unknown names there are.
"""

import difflib
import heapq
import itertools
from collections.abc import Mapping, Sequence

from sqlalchemy import select

from service.database.tables import ConceptRow
from service.errors import FieldProblem, Invalid
from service.statuses import ConceptStatus
from service.wiring import Service

_CANDIDATES = 500  # the newest
_ADVISED = 4  # unknown names with a suggestion; the others are only listed
_NEAREST = 3
_ALIKE = 0.5
# difflib takes 0.1 ms to compare two names, so it compares only the most promising names.
_COMPARED = 8


class UnknownNames(Exception):
    """A prompt names concepts that its owner does not have.

    `places` has the pointer of the prompt that names the concept, by the concept's name.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        super().__init__(*places)
        self.places = places


def unknown_placeholders(service: Service, owner_id: str, *, unknown: Mapping[str, str]) -> Invalid:
    """Return the error that lists a caller's unknown placeholders, with similar known names.

    `unknown` has the pointer of the prompt, by the name in it.
    """
    with service.database.read() as session:
        names = session.scalars(
            select(ConceptRow.name)
            .where(ConceptRow.owner_id == owner_id, ConceptRow.status == ConceptStatus.READY)
            .order_by(ConceptRow.created_at.desc())
            .limit(_CANDIDATES)
        ).all()
    near = nearest(list(unknown)[:_ADVISED], names)
    problems = [
        FieldProblem(
            pointer,
            f"<{name}> names no concept of yours. {_advice(near.get(name), names)}".rstrip(),
        )
        for name, pointer in unknown.items()
    ]
    return Invalid(problems, slug="unknown-placeholder")


def nearest(wanted: Sequence[str], names: Sequence[str]) -> dict[str, list[str]]:
    """Return up to three of `names` for each name in `wanted`, the most similar first."""
    grams = {name: _grams(name) for name in names}

    def alike(name: str) -> list[str]:
        own = _grams(name)
        promising = heapq.nlargest(_COMPARED, names, key=lambda other: len(own & grams[other]))
        return difflib.get_close_matches(name, promising, n=_NEAREST, cutoff=_ALIKE)

    return {name: alike(name) for name in wanted}


def _grams(name: str) -> set[str]:
    """Return the letters of a name and its pairs of neighbouring letters."""
    return set(name).union(map("".join, itertools.pairwise(name)))


def _advice(near: Sequence[str] | None, names: Sequence[str]) -> str:
    if near is None:
        return ""
    if near:
        verb = "The nearest are " if len(near) > 1 else "The nearest is "
        return verb + ", ".join(f"<{name}>" for name in near) + "."
    if names:
        more = "." if len(names) <= _NEAREST else " and others."
        return "Yours are " + ", ".join(f"<{name}>" for name in names[:_NEAREST]) + more
    return "You have no concept that is ready yet: create one, or take the brackets away."

"""The concepts of a request for images: their rows, their files, and the gate of each."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, or_, select

from perfusion_core.config import Locking
from perfusion_core.text import prompt as prompts
from service.concepts import rows
from service.database.tables import ConceptRow
from service.errors import Conflict, invalid
from service.generations.requests import ConceptChoice
from service.generations.strengths import Gate, default_gate, gate_of_strength
from service.generations.unknown_names import UnknownNames
from service.ids import is_plausible
from service.jobs.payloads import PromptedConcept
from service.statuses import ConceptStatus

Known = Row[Any]
"""What the database knows about a request and one of its concepts; see use_cases.py."""


def resolve(*, prompt: prompts.Prompt, known: Iterable[Known]) -> list[Known]:
    """Return the prompt's concepts in order of first mention, all ready."""
    found = {concept.name: concept for concept in known}
    unknown = [name for name in prompt.names if name not in found]
    if unknown:
        raise UnknownNames(dict.fromkeys(unknown, "/prompt"))
    concepts = [found[name] for name in prompt.names]
    for concept in concepts:
        if concept.status is not ConceptStatus.READY:
            raise rows.not_ready(concept.name, concept.status)
    return concepts


def attribute(
    connection: Connection,
    owner_id: str,
    *,
    choices: Sequence[ConceptChoice],
    gates: Sequence[Gate | None],
    among: Iterable[Known],
) -> dict[str, Gate]:
    """Return the explicit gates by concept id; every entry must name a concept of the prompt."""
    by_ref = {ref: concept for concept in among for ref in (concept.id, concept.name)}
    explicit: dict[str, Gate | None] = {}
    for k, (choice, gate) in enumerate(zip(choices, gates, strict=True)):
        field = "name" if choice.name is not None else "id"
        ref = choice.name if choice.name is not None else choice.id
        concept = by_ref.get(ref or "")
        if concept is None or (field == "name") != (concept.name == ref):
            raise invalid(f"/concepts/{k}/{field}", _not_in_prompt(connection, owner_id, ref=ref))
        if concept.id in explicit:
            raise invalid(f"/concepts/{k}", f"{concept.name} is listed twice. Keep one entry.")
        explicit[concept.id] = gate
    return {concept_id: gate for concept_id, gate in explicit.items() if gate is not None}


def check_one_base_model(concepts: Sequence[Known]) -> None:
    """Raise Conflict if a concept belongs to another base model than the served one."""
    if not concepts:
        return
    first = concepts[0]
    expected = (first.fingerprint, first.covariance_fingerprint)
    other = "the one that is served here"
    if first.fingerprint is None:  # no worker has registered a base model yet
        expected = (first.own_fingerprint, first.own_covariance_fingerprint)
        other = f"that of <{first.name}>"
    for concept in concepts:
        own = (concept.own_fingerprint, concept.own_covariance_fingerprint)
        if own != expected:
            raise Conflict(
                "base-model-mismatch",
                f"<{concept.name}> belongs to the base model {own[0]} with the covariance "
                f"{own[1]}, which is not {other} ({expected[0]} with {expected[1]}). "
                "Train it again on that one.",
            )


def use(
    concept: Known, gate: Gate | None, *, prompt: prompts.Prompt, locking: Locking
) -> PromptedConcept:
    """Return a concept with its gate: `gate`, or the prompt's strength, or the default."""
    if gate is None:
        written = prompt.strengths.get(concept.name)
        recommended = concept.recommended_strength
        gate = (
            default_gate(locking, recommended_strength=recommended)
            if written is None
            else gate_of_strength(written)
        )
    return PromptedConcept(
        id=concept.id,
        name=concept.name,
        sha256=concept.sha256,
        blob_key=concept.blob_key,
        beta=gate.beta,
        tau=gate.tau,
    )


def _not_in_prompt(connection: Connection, owner_id: str, *, ref: str | None) -> str:
    name = None
    if ref is not None and is_plausible(ref):
        name = connection.scalar(
            select(ConceptRow.name).where(
                ConceptRow.owner_id == owner_id, or_(ConceptRow.id == ref, ConceptRow.name == ref)
            )
        )
    if name is None:
        return "This names no concept of yours."
    return f"The prompt does not mention <{name}>. Put it there, or leave this entry out."

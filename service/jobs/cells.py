"""The cells of a sweep, as a worker samples them.

A plain generation is one cell without a position.
"""

from dataclasses import dataclass
from typing import Any

from service.jobs.payloads import EditPayload, GeneratePayload, PromptedConcept, SweepPayload

_OF_EDITS = ("denoising_strength",)


@dataclass(frozen=True, kw_only=True)
class StoredCell:
    """A cell's own prompt, concepts and options, and its edit, if it starts from a picture."""

    position: tuple[int, int] | None  # column and row, from 0
    prompt: str
    concepts: tuple[PromptedConcept, ...]
    options: dict[str, Any]
    edit: EditPayload | None


def cells_of(payload: GeneratePayload) -> list[StoredCell]:
    """Return the cells of a generation, row by row."""
    if payload.sweep is None:
        return [
            StoredCell(
                position=None,
                prompt=payload.prompt,
                concepts=payload.concepts,
                options=payload.config,
                edit=payload.edit,
            )
        ]
    return [
        _cell(payload, payload.sweep, position=(column, row))
        for row in range(rows_of(payload.sweep))
        for column in range(columns_of(payload.sweep))
    ]


def columns_of(sweep: SweepPayload) -> int:
    """Return the number of columns of a sweep."""
    return len(sweep.axes[0].values)


def rows_of(sweep: SweepPayload) -> int:
    """Return the number of rows of a sweep."""
    return len(sweep.axes[1].values) if len(sweep.axes) > 1 else 1


def _cell(
    payload: GeneratePayload, sweep: SweepPayload, *, position: tuple[int, int]
) -> StoredCell:
    column, row = position
    gates = sweep.gates[row * columns_of(sweep) + column]
    own = {
        axis.field: axis.values[place]
        for axis, place in zip(sweep.axes, position, strict=False)
        if ":" not in axis.field  # the gates have the values of strength and beta
    }
    prompt = own.pop("prompt", payload.prompt)
    of_edit = {name: own.pop(name) for name in _OF_EDITS if name in own}
    by_name = {concept.name: concept for concept in payload.concepts}
    return StoredCell(
        position=position,
        prompt=str(prompt),
        concepts=tuple(
            by_name[name].model_copy(update={"beta": beta, "tau": tau})
            for name, (beta, tau) in gates.items()  # in the order of the cell's prompt
        ),
        options={**payload.config, "num_images": 1, **own},
        edit=payload.edit
        and payload.edit.model_copy(update={"options": {**payload.edit.options, **of_edit}}),
    )

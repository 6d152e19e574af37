"""Sweeps: one request whose cells differ in the values of one or two axes.

A cell is a request of its own, with the axes' values in place of the fields. So every check of a
plain request holds for every cell, and a cell equals the same request made alone.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any, TypeVar

from perfusion_core.text.prompt import NAME_PATTERN
from service.errors import FieldProblem, Invalid
from service.generations.requests import ConceptChoice, GenerateRequest, Sweep, SweepAxis
from service.generations.unknown_names import UnknownNames
from service.jobs.payloads import PromptedConcept, SweepPayload, SweepPayloadAxis

FIELDS = (
    "seed",
    "prompt",
    "guidance_scale",
    "num_inference_steps",
    "locking",
    "scheduler",
    "denoising_strength",
)
"""The fields of a request that an axis may vary, besides a concept's strength and beta."""

MAX_CELLS = 64
_MAX_AXES = 2
_MAX_PROBLEMS = 20
_OF_CONCEPT = re.compile(f"(strength|beta):({NAME_PATTERN})")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RequestedCell:
    """The request of a cell; a request without a sweep is a cell without a position."""

    index: int = 0
    body: GenerateRequest
    # Where the values of an axis stand in the sweep, by the pointer of the field that they replace.
    places: dict[str, str] = field(default_factory=dict)

    def placed(self, pointer: str) -> str:
        """Return the pointer in the whole request of a pointer into this cell's request."""
        for own, place in self.places.items():
            if pointer == own or pointer.startswith(f"{own}/"):
                return place
        return pointer


@dataclass(frozen=True, kw_only=True)
class _Value:
    """A checked value of an axis."""

    pointer: str
    value: int | float | str
    choice: ConceptChoice | None  # of an axis of strength or beta


def cells_of(body: GenerateRequest) -> list[RequestedCell]:
    """Return the cells of a request, row by row; axis 0 is the columns, axis 1 the rows.

    Raise Invalid if the axes do not make a sweep, or with every value that its field does not
    allow.
    """
    if body.sweep is None:
        return [RequestedCell(body=body)]
    _check(body, body.sweep)
    values = _checked_values(body.sweep.axes)
    plain = body.model_copy(update={"sweep": None, "num_images": 1})
    # In the order of a page: along a row first.
    combinations = (reversed(cell) for cell in product(*reversed(values)))
    return [
        _cell(plain, index=index, axes=body.sweep.axes, values=list(combination))
        for index, combination in enumerate(combinations)
    ]


def in_each(cells: Iterable[RequestedCell], act: Callable[[RequestedCell], T]) -> list[T]:
    """Return the results of `act` for every cell.

    Raise Invalid with the problems of all cells, each at its place in the whole request, or
    UnknownNames with the names that are unknown in any cell.
    """
    results: list[T] = []
    wrong: dict[FieldProblem, str] = {}
    unknown: dict[str, str] = {}
    for cell in cells:
        try:
            results.append(act(cell))
        except Invalid as error:
            for problem in error.errors:
                placed = FieldProblem(cell.placed(problem.pointer), problem.detail)
                wrong.setdefault(placed, error.slug)
        except UnknownNames as error:
            for name, pointer in error.places.items():
                unknown.setdefault(name, cell.placed(pointer))
    if wrong:
        raise Invalid(list(wrong)[:_MAX_PROBLEMS], slug=next(iter(wrong.values())))
    if unknown:
        raise UnknownNames(unknown)
    return results


def payload(
    sweep: Sweep | None,
    *,
    cells: Sequence[RequestedCell],
    prompts: Sequence[str],
    concepts: Sequence[Sequence[PromptedConcept]],
) -> SweepPayload | None:
    """Return the sweep as the job's row stores it; `prompts` and `concepts` are those of each cell.

    A prompt is stored as the worker reads it, and so are the numbers.
    """
    if sweep is None:
        return None
    strides = (1, len(sweep.axes[0].values))
    axes = []
    for axis, stride in zip(sweep.axes, strides, strict=False):
        along = [k * stride for k in range(len(axis.values))]
        values: tuple[Any, ...] = axis.values
        if axis.field == "prompt":
            values = tuple(prompts[index] for index in along)
        elif axis.field in FIELDS:
            values = tuple(getattr(cells[index].body, axis.field) for index in along)
        axes.append(SweepPayloadAxis(field=axis.field, values=values))
    gates = tuple({each.name: (each.beta, each.tau) for each in used} for used in concepts)
    return SweepPayload(axes=tuple(axes), gates=gates)


def _check(body: GenerateRequest, sweep: Sweep) -> None:
    fields = [axis.field for axis in sweep.axes]
    wrong = [
        FieldProblem(
            f"/sweep/axes/{k}/field",
            f"There is no such axis. An axis is strength:<name>, beta:<name>, {', '.join(FIELDS)}, "
            "where <name> is a concept's name without brackets.",
        )
        for k, name in enumerate(fields)
        if name not in FIELDS and not _OF_CONCEPT.fullmatch(name)
    ]
    wrong += [
        FieldProblem(f"/sweep/axes/{k}/values", "An axis needs one value at least.")
        for k, axis in enumerate(sweep.axes)
        if not axis.values
    ]
    if not 1 <= len(fields) <= _MAX_AXES:
        wrong.append(FieldProblem("/sweep/axes", f"A sweep has one or {_MAX_AXES} axes."))
    elif len(set(fields)) < len(fields):
        wrong.append(
            FieldProblem("/sweep/axes/1/field", "Both axes vary the same. Choose another field.")
        )
    elif len({name.partition(":")[2] or name for name in fields}) < len(fields):
        wrong.append(
            FieldProblem(
                "/sweep/axes/1/field",
                "A concept has one gate: vary either its strength or its beta.",
            )
        )
    if (count := prod(len(axis.values) for axis in sweep.axes)) > MAX_CELLS:
        wrong.append(
            FieldProblem(
                "/sweep/axes", f"A sweep may have {MAX_CELLS} cells at most; this one has {count}."
            )
        )
    if body.model_dump(include={"num_images"}, exclude_unset=True).get("num_images", 1) != 1:
        wrong.append(
            FieldProblem(
                "/num_images", "Each cell of a sweep has one image. For more, add an axis of seeds."
            )
        )
    if wrong:
        raise Invalid(wrong)


def _checked_values(axes: Sequence[SweepAxis]) -> list[list[_Value]]:
    wrong: list[FieldProblem] = []
    checked: list[list[_Value]] = []
    for number, axis in enumerate(axes):
        checked.append([])
        for k, value in enumerate(axis.values):
            pointer = f"/sweep/axes/{number}/values/{k}"
            try:
                checked[-1].append(_checked_value(axis.field, value, pointer=pointer))
            except Invalid as error:
                wrong += [FieldProblem(pointer, problem.detail) for problem in error.errors]
    if wrong:
        raise Invalid(wrong[:_MAX_PROBLEMS])
    return checked


def _checked_value(name: str, value: int | float | str, *, pointer: str) -> _Value:
    if match := _OF_CONCEPT.fullmatch(name):
        choice = ConceptChoice.read({"name": match[2], match[1]: value})
        return _Value(pointer=pointer, value=value, choice=choice)
    alone = GenerateRequest.read({"prompt": "an image", name: value})
    return _Value(pointer=pointer, value=getattr(alone, name), choice=None)


def _cell(
    plain: GenerateRequest, *, index: int, axes: Sequence[SweepAxis], values: Sequence[_Value]
) -> RequestedCell:
    fields: dict[str, Any] = {}
    places: dict[str, str] = {}
    choices = list(plain.concepts)
    for number, (axis, value) in enumerate(zip(axes, values, strict=True)):
        if value.choice is None:
            fields[axis.field] = value.value
            places[f"/{axis.field}"] = value.pointer
        else:
            place = _place_of(value.choice, choices)
            choices[place : place + 1] = [_merged(value.choice, choices[place : place + 1])]
            places[f"/concepts/{place}"] = f"/sweep/axes/{number}/field"
    body = plain.model_copy(update={**fields, "concepts": tuple(choices)})
    return RequestedCell(index=index, body=body, places=places)


def _place_of(choice: ConceptChoice, choices: Sequence[ConceptChoice]) -> int:
    named = [k for k, other in enumerate(choices) if other.name == choice.name]
    return named[0] if named else len(choices)


def _merged(choice: ConceptChoice, replaced: Sequence[ConceptChoice]) -> ConceptChoice:
    """Return an axis's choice in place of the request's own; a beta keeps the request's tau."""
    tau = replaced[0].tau if replaced and choice.beta is not None else None
    return choice.model_copy(update={"tau": tau})

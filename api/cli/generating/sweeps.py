"""`perfusion generate --sweep`: an image for each cell of a grid, and the contact sheet.

The cells follow the server's rules (service/generations/sweeps.py). They are made one after the
other, because only the server's engine chooses batches by a device's memory.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.errors import CommandError
from api.cli.files import free_name
from api.cli.generating.images import Asked, ImageMaker, ImageOptions, read_concepts
from perfusion_core.config import MAX_SEED
from perfusion_core.imaging import contact_sheet
from perfusion_core.imaging.contact_sheet import Axis
from perfusion_core.text.prompt import parse
from service.errors import FieldProblem, Invalid
from service.generations import sweeps
from service.generations.requests import GenerateRequest
from service.options import GenerationOptions

if TYPE_CHECKING:
    from PIL import Image

SweepsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--sweep",
        metavar="FIELD=VALUES",
        help="Make an image for each value and a contact sheet, e.g. strength:rex=0.2,0.4,0.6. "
        "Give it twice for a grid: columns, then rows. Fields: strength:NAME and beta:NAME (of the "
        "prompt's only concept without :NAME), seed, prompt (values separated by |), "
        "guidance_scale, num_inference_steps, locking, scheduler.",
    ),
]
_GATES = ("strength", "beta")
_TEXTS = ("prompt", "locking", "scheduler")


@dataclass(frozen=True)
class CommandSweep:
    """The axes of a contact sheet, and what its cells ask for, row by row."""

    axes: Sequence[Axis]
    cells: Sequence[Asked]


def read_sweep(
    written: Sequence[str], *, prompt: str, options: Mapping[str, Any], given: ImageOptions
) -> CommandSweep:
    """Return the sweep of `--sweep FIELD=VALUES`; all cells have one seed, unless it is an axis.

    Raise CommandError if it cannot be read or breaks a rule of the server.
    """
    axes = [_axis(text, prompt=prompt) for text in written]
    prompts = next((axis["values"] for axis in axes if axis["field"] == "prompt"), [prompt])
    concepts, choices = read_concepts(prompts, given=given)
    body: dict[str, Any] = {"prompt": prompt, "seed": secrets.randbelow(MAX_SEED + 1), **options}
    body["concepts"] = [choice.model_dump(exclude_none=True) for choice in choices]
    try:
        cells = sweeps.cells_of(GenerateRequest.read({**body, "sweep": {"axes": axes}}))
    except Invalid as error:
        raise CommandError(_sentence(error.errors[0], axes=axes)) from error
    asked = [
        Asked.of(
            cell.body.prompt,
            concepts=concepts,
            choices=cell.body.concepts,
            options=cell.body.model_dump(
                include={*GenerationOptions.model_fields}, exclude_unset=True
            ),
            given=given,
        )
        for cell in cells
    ]
    return CommandSweep([Axis.of(axis["field"], axis["values"]) for axis in axes], asked)


def make_sweep(maker: ImageMaker, sweep: CommandSweep) -> None:
    """Write the images of all cells and the contact sheet, and tell the files' names."""
    for cell in sweep.cells:
        maker.base.defaults.generate_config(cell.options)  # wrong values end it before any image
    shrunk: list[Image.Image] = []
    longest = contact_sheet.MOST_PIXELS
    for number, cell in enumerate(sweep.cells, start=1):
        [image] = maker.make(cell, label=f"Image {number} of {len(sweep.cells)}")
        own_size = image.size
        shrunk.append(contact_sheet.fit(image, size=(longest, longest)))
    columns = len(sweep.axes[0].values)

    def image_at(column: int, row: int, size: tuple[int, int]) -> "Image.Image":
        return contact_sheet.fit(shrunk[row * columns + column], size=size)

    file = free_name(sweep.cells[0].given.out, "sheet")
    contact_sheet.draw(sweep.axes, image_at, image_size=own_size).save(file)
    typer.echo(str(file))


def _axis(text: str, *, prompt: str) -> dict[str, Any]:
    field, equals, values = (part.strip() for part in text.partition("="))
    if not equals:
        raise CommandError(f"--sweep takes FIELD=VALUES, such as seed=1,2,3, not {text!r}.")
    if field == "denoising_strength":
        raise CommandError("--sweep cannot vary denoising_strength: no picture is edited here.")
    if field in _GATES:
        names = parse(prompt).names
        if len(names) != 1:
            raise CommandError(
                f"--sweep {field} needs a name, because the prompt has {len(names)} concepts: "
                f"write {field}:NAME={values}."
            )
        field = f"{field}:{names[0]}"
    parts = values.split("|" if field == "prompt" else ",")
    return {"field": field, "values": [_value(field, part.strip()) for part in parts]}


def _value(field: str, text: str) -> int | float | str:
    if field in _TEXTS:
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _sentence(problem: FieldProblem, *, axes: Sequence[Mapping[str, Any]]) -> str:
    """Return a problem of a request in the words of the command line."""
    found = re.match(r"/sweep/axes/(\d+)(?:/values/(\d+))?", problem.pointer)
    if found is None:
        option = problem.pointer.strip("/").partition("/")[0].replace("_", "-")
        return f"--{option}: {problem.detail}"
    axis = axes[int(found[1])]
    value = f", value {axis['values'][int(found[2])]!r}" if found[2] else ""
    return f"--sweep {axis['field']}{value}: {problem.detail}"

"""`perfusion check`: what may be wrong with pictures, and how a training would see them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from PIL import Image, ImageDraw

from api.cli.errors import CommandError
from api.cli.files import open_readable
from perfusion_core.config import read_defaults
from perfusion_core.text.superclasses import superclass_sentence
from service import log, validation
from service.settings import environment

if TYPE_CHECKING:
    from perfusion_core.pictures.findings import Finding
    from perfusion_core.pictures.inspection import InspectedPicture
    from perfusion_core.training.trainer import Training

_PREVIEW_PIXELS = 512
_FRAME_COLOUR = (255, 64, 64)
_MASKS = {
    "upload": "given",
    "alpha": "its transparency",
    "segmenter": "found by the segmenter",
    "uniform": "none",
}


def check(
    pictures: Annotated[
        list[Path],
        typer.Argument(help="1 to 20 pictures of the subject: JPEG, PNG, WebP, or HEIC."),
    ],
    superclass: Annotated[
        str | None, typer.Option(help="What it is; a segmenter then looks for it.")
    ] = None,
    masks: Annotated[
        list[Path] | None,
        typer.Option("--mask", help="One per picture, in the same order; white is the subject."),
    ] = None,
    resolution: Annotated[
        int | None,
        typer.Option(min=1, help="Side that the base model learns from, e.g. 512 or 1024."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for previews: picture, crop and mask.")
    ] = None,
) -> None:
    """Say what may be wrong with pictures before a concept is taught, and what to do about it."""
    if superclass is not None:
        superclass = validation.check_superclass(superclass)
    if out is not None and out.exists() and not out.is_dir():
        raise CommandError(f"{out} is a file: --out names a folder.")
    opened, unreadable = open_readable(pictures, masks or [])
    for problem in unreadable:
        typer.echo(problem, err=True)
    if not opened:
        raise CommandError("None of the pictures can be read.")
    images, image_masks = [each.picture for each in opened], [each.mask for each in opened]

    from perfusion_core.devices.options import device_of
    from perfusion_core.pictures.inspection import inspect_pictures
    from worker.models import segmenter

    chosen = environment.load()
    log.configure(chosen.model_copy(update={"log_level": "warning"}), for_command=True)
    found = inspect_pictures(
        images,
        masks=image_masks if masks else None,
        superclass=superclass,
        segmenter=segmenter.find(
            images,
            image_masks,
            name=chosen.segmenter,
            device=str(device_of(chosen.device)),
        )
        if superclass
        else None,
        resolution=resolution,
    )
    if superclass is not None:
        # A model of the hub need not be here, and is not fetched to look at pictures.
        known = read_defaults(chosen.base_model).known_superclasses
        if unfamiliar := superclass_sentence(superclass, known=known):
            typer.echo(unfamiliar)
    shared = _shared([inspected.findings for inspected in found])
    for sentence in sentences(shared):
        typer.echo(f"All pictures: {sentence}")
    for each, inspected in zip(opened, found, strict=True):
        number, file, picture = each.number, each.file, each.picture
        own = [finding for finding in inspected.findings if finding not in shared]
        typer.echo(f"{file} (picture {number}): {_told(inspected, own, picture.size)}")
        for sentence in sentences(own):
            typer.echo(f"  {sentence}")
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            preview = out / f"{number}-{file.stem}.png"
            _draw(picture, inspected).save(preview)
            typer.echo(f"  {preview}")
    if unreadable:
        raise CommandError(
            f"{len(unreadable)} of {len(pictures)} pictures cannot be read: see the lines above."
        )


def warn(files: Sequence[Path], training: "Training", *, searched: bool) -> None:
    """Write what may be wrong with a training's pictures to stderr."""
    from perfusion_core.pictures.inspection import find_problems

    found = find_problems(
        training.examples.prepared,
        searched=training.superclass if searched else None,
        resolution=training.config.resolution or training.base.default_resolution,
    )
    shared = _shared(found)
    for sentence in sentences(shared):
        typer.echo(f"All pictures: {sentence}", err=True)
    for file, findings in zip(files, found, strict=True):
        for sentence in sentences([finding for finding in findings if finding not in shared]):
            typer.echo(f"{file}: {sentence}", err=True)


def sentences(findings: "Sequence[Finding]") -> Iterator[str]:
    """Yield a line for each finding: its code, what is wrong, and what to do about it."""
    for finding in findings:
        yield f"{finding.code}: {finding.detail} {finding.remedy}"


def _shared(found: "Sequence[Sequence[Finding]]") -> "list[Finding]":
    """Return what all of several pictures have, so that it is said once."""
    first, *others = found
    return [finding for finding in first if others and all(finding in each for each in others)]


def _told(inspected: "InspectedPicture", own: "Sequence[Finding]", size: tuple[int, int]) -> str:
    x, y, width, height = inspected.crop
    nothing = "nothing else is wrong" if inspected.findings else "nothing is wrong"
    count = {0: nothing, 1: "1 finding"}.get(len(own), f"{len(own)} findings")
    return (
        f"{count}; mask: {_MASKS[inspected.mask_source]}; "
        f"crop: {width} x {height} at ({x}, {y}) of {size[0]} x {size[1]} pixels"
    )


def _draw(picture: Image.Image, inspected: "InspectedPicture") -> Image.Image:
    """Return picture and mask next to each other, each with a frame around the crop."""
    x, y, width, height = inspected.crop
    mask = inspected.mask or Image.new("L", picture.size, 255)
    sheet = Image.new("RGB", (2 * picture.width, picture.height), "white")
    for left, image in ((0, picture), (picture.width, mask)):
        sheet.paste(image.convert("RGB"), (left, 0), image if image.mode == "RGBA" else None)
        ImageDraw.Draw(sheet).rectangle(
            (left + x, y, left + x + width - 1, y + height - 1),
            outline=_FRAME_COLOUR,
            width=max(2, picture.height // 150),
        )
    sheet.thumbnail((2 * _PREVIEW_PIXELS, _PREVIEW_PIXELS), Image.Resampling.LANCZOS)
    return sheet

"""`perfusion edit`: put a concept into a photo, or draw the photo anew, without a server."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image
from pydantic.dataclasses import dataclass

from api.cli.base_model import ModelOptions, load
from api.cli.errors import CommandError
from api.cli.generating.images import Asked, ImageMaker, ImageOptions
from api.cli.options import with_options
from perfusion_core.config import EditConfig, GenerateConfig
from perfusion_core.editing.edit import Edit
from perfusion_core.editing.masks import mask_of_boxes, mask_of_subject
from perfusion_core.errors import PictureError
from perfusion_core.pictures.reading import open_mask, open_whole
from service.settings.environment import Settings
from worker.metadata import metadata_of

_OF_EDIT = frozenset(field.name for field in fields(EditConfig))
_OF_MASK = ("mask_feather", "mask_margin", "keep_background")
_OF_SIZE = ("width", "height")


@dataclass(frozen=True, kw_only=True)
class _Options(GenerateConfig, EditConfig):
    """The options of sampling and of the edit."""


@with_options(_Options)
def edit(
    photo: Annotated[Path, typer.Argument(help="JPEG, PNG, WebP or HEIC, of any size.")],
    prompt: Annotated[
        str, typer.Argument(help="What the edited part shows, e.g. '<rex> on the table'.")
    ],
    *,
    mask: Annotated[
        Path | None,
        typer.Option(help="A picture of the photo's size: white is painted anew, black stays."),
    ] = None,
    boxes: Annotated[
        list[str] | None,
        typer.Option(
            "--box", metavar="X,Y,WIDTH,HEIGHT", help="Pixels that are painted anew; repeatable."
        ),
    ] = None,
    replace: Annotated[
        str | None, typer.Option(help="What the segmenter finds and paints anew: cup.")
    ] = None,
    given: ImageOptions,
    model: ModelOptions,
    options: dict[str, Any],
) -> None:
    """Edit a photo: paint a part of it anew, or all of it if no part is named."""
    masks = {"--mask": mask, "--box": boxes, "--replace": replace}
    _check_together([name for name, value in masks.items() if value], options)
    picture = _open(photo, open_whole)
    if mask is not None:
        white: Image.Image | None = _open(mask, open_mask)
    else:
        white = mask_of_boxes(picture.size, [_box(text) for text in boxes]) if boxes else None
    config = EditConfig(**{name: value for name, value in options.items() if name in _OF_EDIT})
    made = Edit(picture=picture, mask=white, config=config)
    asked = Asked.read(
        prompt,
        options={name: value for name, value in options.items() if name not in _OF_EDIT},
        given=given,
    )
    chosen = model.settings()
    metadata = metadata_of(chosen)
    if replace is not None:
        made = Edit(picture=picture, mask=_find(chosen, picture, replace), config=config)
    ImageMaker(load(chosen), metadata, edit=made).make(asked)


def _check_together(parts: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raise CommandError unless the options fit together; `parts` say what is painted anew."""
    if len(parts) > 1:
        raise CommandError(f"{parts[0]} and {parts[1]} both say what is painted anew: keep one.")
    for name in _OF_SIZE if parts else _OF_MASK:
        if name in options:
            flag = "--" + name.replace("_", "-")
            raise CommandError(
                f"With {parts[0]} an image has the size of its photo: leave {flag} out."
                if parts
                else f"{flag} needs a mask: add --mask, --box or --replace."
            )


def _open(file: Path, read: Callable[[Path], Image.Image]) -> Image.Image:
    if not file.is_file():
        raise CommandError(f"There is no file {file}.")
    try:
        return read(file)
    except PictureError as error:
        raise CommandError(f"{file}: {error}") from error


def _box(text: str) -> tuple[int, ...]:
    try:
        box = tuple(int(number) for number in text.split(","))
    except ValueError:
        box = ()
    if len(box) != 4:
        raise CommandError(
            f"--box takes X,Y,WIDTH,HEIGHT in pixels, such as 40,60,200,150, not {text!r}."
        )
    return box


def _find(settings: Settings, picture: Image.Image, subject: str) -> Image.Image:
    """Return the mask of what the segmenter finds; raise CommandError if there is none."""
    none_here = (
        "There is no segmenter on this machine to find what --replace names: run `perfusion "
        "prepare`, or use --mask or --box."
    )
    if settings.segmenter == "none":
        raise CommandError(none_here)

    from perfusion_core.devices.options import device_of
    from perfusion_core.pictures.masks import Segmenter
    from worker.models import segmenter

    name = segmenter.name_of(settings)
    if name is None:
        raise CommandError(none_here)
    find = Segmenter(name, device=str(device_of(settings.device)))
    return mask_of_subject(picture, subject, find)

"""A command's files: pictures and concepts to read, images to write."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from api.cli.errors import CommandError
from perfusion_core.concept import Concept
from service import wiring
from service.errors import Invalid, TooLarge, UnsupportedMedia
from service.pictures import uploads
from service.settings import environment

_MAX_WORD_LENGTH = 40  # in a file's name


def open_pictures(
    files: list[Path], masks: list[Path]
) -> tuple[list[Image.Image], list[Image.Image | None] | None]:
    """Read pictures and any masks of the pictures, normalised like uploads."""
    for file in (*files, *masks):
        if file.is_dir():
            raise CommandError(f"{file} is a folder: name its pictures, such as {file}/*.jpg.")
        if not file.is_file():
            raise CommandError(f"There is no file {file}.")
    service = wiring.build(environment.load())
    try:
        uploaded = list(
            uploads.read_pictures(
                service,
                images=[file.read_bytes() for file in files],
                masks=[file.read_bytes() for file in masks],
            )
        )
    except (Invalid, TooLarge, UnsupportedMedia) as error:
        named = _name_the_file(error.errors[0].pointer, files, masks)
        raise CommandError(named + error.detail) from error
    finally:
        service.close()
    opened = [_open(picture.png) for picture in uploaded]
    return opened, [_open(p.mask_png) if p.mask_png else None for p in uploaded] if masks else None


@dataclass(frozen=True)
class Opened:
    """A picture of a command line with its mask, and its number from 1."""

    number: int
    file: Path
    picture: Image.Image
    mask: Image.Image | None


def open_readable(files: list[Path], masks: list[Path]) -> tuple[list[Opened], list[str]]:
    """Read the pictures that can be read; return them, and a sentence for each of the others.

    Raises CommandError if the numbers of files are wrong.
    """
    try:
        pictures, opened_masks = open_pictures(files, masks)
    except CommandError:
        if len(files) == 1 or uploads.wrong_counts(len(files), masks=len(masks)):
            raise
    else:
        of_pictures = opened_masks or [None] * len(files)
        read = zip(files, pictures, of_pictures, strict=True)
        return [Opened(number, *each) for number, each in enumerate(read, start=1)], []
    opened, problems = [], []
    for number, file in enumerate(files, start=1):
        own_mask = masks[number - 1 : number]
        try:
            [picture], of_picture = open_pictures([file], own_mask)
        except CommandError as error:
            problems.append(str(error))
        else:
            opened.append(Opened(number, file, picture, of_picture[0] if of_picture else None))
    return opened, problems


def _open(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


def _name_the_file(pointer: str, files: list[Path], masks: list[Path]) -> str:
    """Return the file's name, because the pointer `/images/0` says little on a command line."""
    part, _, position = pointer.lstrip("/").partition("/")
    named = {"images": files, "masks": masks}.get(part, [])
    return f"{named[int(position)]}: " if position.isdecimal() else ""


@dataclass(frozen=True)
class ConceptFile:
    """A concept, and the hash of the concept's file."""

    concept: Concept
    sha256: str


def find_concepts(names: Sequence[str], files: list[Path]) -> dict[str, ConceptFile]:
    """Return the concepts of a prompt by name, from the given files or NAME.safetensors."""
    given: dict[str, ConceptFile] = {}
    read_from: dict[str, Path] = {}
    for file in files:
        read = _read_concept(file)
        name = read.concept.name
        if name in given:
            raise CommandError(
                f"{read_from[name]} and {file} both hold a concept <{name}>: leave one out."
            )
        given[name], read_from[name] = read, file
    for name in names:
        file = Path(f"{name}.safetensors")
        if name not in given and file.is_file():
            read = _read_concept(file)
            given[name] = ConceptFile(read.concept.renamed(name), read.sha256)
        if name not in given:
            raise CommandError(
                f"The prompt names <{name}>, but there is no concept of that name: "
                "add --concept FILE."
            )
    if unused := sorted(set(given) - set(names)):
        raise CommandError(f"The prompt does not name <{unused[0]}>: write it into the prompt.")
    return given


def _read_concept(file: Path) -> ConceptFile:
    if not file.is_file():
        raise CommandError(f"There is no concept file {file}.")
    concept = Concept.load(file)
    return ConceptFile(concept, hashlib.sha256(file.read_bytes()).hexdigest())


def free_name(folder: Path, stem: str) -> Path:
    """Return a PNG file that does not exist yet, so that no image is overwritten."""
    file, k = folder / f"{stem}.png", 1
    while file.exists():
        k += 1
        file = folder / f"{stem}-{k}.png"
    return file


def map_name(image: Path, number: int, *, word: str) -> Path:
    """Return the file of an attention map, next to its image: `7.attention-3-beach.png`."""
    return image.with_name(f"{image.stem}.attention-{number}-{word[:_MAX_WORD_LENGTH]}.png")

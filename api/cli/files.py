"""A command's files: pictures and concepts to read, images to write."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from api.cli.errors import CommandError
from perfusion_core.concept import Concept
from perfusion_core.text.prompt import parse
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


def find_concepts(prompt: str, files: list[Path]) -> dict[str, ConceptFile]:
    """Return the prompt's concepts by name, from the given files or NAME.safetensors."""
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
    names = parse(prompt).names
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


def free_name(folder: Path, seed: int) -> Path:
    """Return a file that does not exist yet, so that no image is overwritten."""
    file, k = folder / f"{seed}.png", 1
    while file.exists():
        k += 1
        file = folder / f"{seed}-{k}.png"
    return file


def map_name(image: Path, number: int, *, word: str) -> Path:
    """Return the file of an attention map, next to its image: `7.attention-3-beach.png`."""
    return image.with_name(f"{image.stem}.attention-{number}-{word[:_MAX_WORD_LENGTH]}.png")

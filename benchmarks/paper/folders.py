"""Subjects of the user's: a folder of folders, one for each subject.

    my-subjects/
      rex/
        subject.json      {"name": "rex", "superclass": "dog"}
        first.jpg         a photo; any number of JPEG, PNG or WebP files
        first.mask.png    its mask, if there is one: white is the subject

`subject.json` may also have "wearer": true for what can wear a hat, and "prompts": a list of
prompts with {} in the subject's place, which replace the usual ones.
"""

import re
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.paper.subjects import Subject

_ABOUT = "subject.json"
_PHOTOS = {".jpg", ".jpeg", ".png", ".webp"}
_MASK = ".mask"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


class SubjectsError(ValueError):
    """A folder of subjects that cannot be used; the message says which file to mend."""


class _About(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    superclass: str = Field(min_length=1)
    wearer: bool = False
    prompts: list[str] = []


def read_subjects(folder: Path) -> tuple[Subject, ...]:
    """Return the subjects of a folder, by their folders' names; raises SubjectsError."""
    if not folder.is_dir():
        raise SubjectsError(f"{folder} is no folder of subjects.")
    subjects = [_read(own) for own in sorted(folder.iterdir()) if own.is_dir()]
    if len(subjects) < 2:
        raise SubjectsError(
            f"{folder} holds {len(subjects)} subjects: intervals are over subjects and need two."
        )
    names = [subject.name for subject in subjects]
    for name in names:
        if names.count(name) > 1:
            raise SubjectsError(f'Two subjects of {folder} have the name "{name}".')
    if len({len(subject.prompts) for subject in subjects}) > 1:
        raise SubjectsError(f"The subjects of {folder} have different numbers of prompts.")
    return tuple(subjects)


def _read(folder: Path) -> Subject:
    file = folder / _ABOUT
    if not file.is_file():
        raise SubjectsError(f'{folder} lacks {_ABOUT}: {{"name": "rex", "superclass": "dog"}}.')
    try:
        about = _About.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise SubjectsError(f"{file}: {where}: {first['msg']}.") from error
    if not _NAME.fullmatch(about.name):
        raise SubjectsError(f"{file}: a name has lower-case letters, digits and hyphens.")
    for prompt in about.prompts:
        if prompt.count("{}") != 1 or prompt.count("{") + prompt.count("}") != 2:
            raise SubjectsError(f'{file}: the prompt "{prompt}" needs one {{}} for the subject.')
    return Subject(
        about.name, about.superclass, wearer=about.wearer,
        photos=_photos(folder), prompts=tuple(about.prompts),
    )  # fmt: skip


def _photos(folder: Path) -> tuple[tuple[Path, Path | None], ...]:
    pictures = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in _PHOTOS]
    masks = {file.stem.removesuffix(_MASK): file for file in pictures if file.stem.endswith(_MASK)}
    photos = {file.stem: file for file in pictures if not file.stem.endswith(_MASK)}
    if not photos:
        raise SubjectsError(f"{folder} holds no photo: JPEG, PNG or WebP.")
    for stem, mask in masks.items():
        if stem not in photos:
            raise SubjectsError(f"{mask} is the mask of no photo: there is no {stem}.jpg or .png.")
    for file in pictures:
        try:
            with Image.open(file) as image:
                image.load()
        except (UnidentifiedImageError, OSError) as error:
            raise SubjectsError(f"{file} is no picture that can be read.") from error
    return tuple((photo, masks.get(stem)) for stem, photo in photos.items())

"""The two multipart forms, read part by part; an error names every unexpected part.

The framework's parser limits the number and the size of text fields, but not the size of files.
This module limits files: the limit on the whole body bounds all files together, and each file has a
limit of its own.
"""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from api.uploads.spool import read_form
from perfusion_core.concept import MAX_CONCEPT_BYTES
from perfusion_core.config import TrainConfig
from service import validation as texts
from service.errors import FieldProblem, Invalid, TooLarge, UnsupportedMedia
from service.field_problems import field_problems
from service.options import check as check_options
from service.pictures.uploads import MAX_PICTURES, wrong_counts
from service.settings.environment import Settings

_MAX_FILES = 4 * MAX_PICTURES  # enough to report how many there are too many, but limited
_MAX_FIELDS = 32
_MAX_TEXT_BYTES = 64 * 1024
MAX_IMPORT_BYTES = MAX_CONCEPT_BYTES + 2 * _MAX_TEXT_BYTES
"""The largest body of an import: a concept file, its name, and the form around them."""


@dataclass(frozen=True)
class ConceptForm:
    """The content of POST /concepts: open files, not yet read, and checked texts and numbers."""

    name: str
    superclass: str
    pictures: Sequence[BinaryIO]
    masks: Sequence[BinaryIO]
    training: dict[str, Any]


@dataclass(frozen=True)
class ImportForm:
    """The content of POST /concepts/import."""

    data: bytes
    name: str | None


@asynccontextmanager
async def concept_form(request: Request, *, settings: Settings) -> AsyncIterator[ConceptForm]:
    """Read and check the form of POST /concepts; raise one error that names every wrong part.

    The form's files are open as long as the block runs.
    """
    async with _form(request, folder=settings.spool_dir) as form:
        wrong = _unexpected(form, {"images", "masks", "name", "superclass", "training"})
        pictures, masks = [
            _files(
                form,
                part,
                wrong,
                max_bytes=settings.max_picture_bytes,
                slug="picture-too-large",
            )
            for part in ("images", "masks")
        ]
        wrong += wrong_counts(len(pictures), masks=len(masks))
        words = await _texts(form, ("name", "superclass"), wrong)
        name = _checked(texts.check_name, words.get("name", ""), wrong)
        superclass = _checked(texts.check_superclass, words.get("superclass", ""), wrong)
        training = await _training(form, wrong)
        if wrong:
            raise Invalid(wrong)
        yield ConceptForm(
            name=name,
            superclass=superclass,
            pictures=[upload.file for upload in pictures],
            masks=[upload.file for upload in masks],
            training=training,
        )


async def read_import_form(request: Request, *, settings: Settings) -> ImportForm:
    """Read and check the form of POST /concepts/import."""
    async with _form(request, folder=settings.spool_dir) as form:
        wrong = _unexpected(form, {"file", "name"})
        files = _files(
            form, "file", wrong, max_bytes=MAX_CONCEPT_BYTES, slug="concept-file-too-large"
        )
        if len(files) != 1:
            wrong.append(FieldProblem("/file", "Send one concept file as the part `file`."))
        name = (await _texts(form, ("name",), wrong)).get("name")
        if name is not None:
            _checked(texts.check_name, name, wrong)
        if wrong:
            raise Invalid(wrong)
        return ImportForm(data=await files[0].read(), name=name)


@asynccontextmanager
async def _form(request: Request, *, folder: str) -> AsyncIterator[FormData]:
    """Return the request's form, limited in size; replace the parser's error texts by our own."""
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type != "multipart/form-data":
        raise UnsupportedMedia("unsupported-media", "Send the body as multipart/form-data.")
    try:
        form = await read_form(
            request,
            folder=folder,
            max_files=_MAX_FILES,
            max_fields=_MAX_FIELDS,
            max_text_bytes=_MAX_TEXT_BYTES,
        )
    except HTTPException as error:
        if error.detail.startswith("Too many files"):
            raise Invalid(wrong_counts(_MAX_FILES)) from error
        raise
    try:
        yield form
    finally:
        await form.close()


def _unexpected(form: FormData, known: set[str]) -> list[FieldProblem]:
    strangers = [{"loc": (name,), "type": "extra_forbidden", "msg": ""} for name in form]
    return field_problems(item for item in strangers if item["loc"][0] not in known)


def _files(
    form: FormData, part: str, wrong: list[FieldProblem], *, max_bytes: int, slug: str
) -> list[UploadFile]:
    """Return the files of the parts named `part`, in order; report a text in place of a file."""
    files = []
    for k, value in enumerate(form.getlist(part)):
        if not isinstance(value, UploadFile):
            wrong.append(FieldProblem(f"/{part}/{k}", "Send this part as a file, with a filename."))
        elif (value.size or 0) > max_bytes:
            sentence = f"This file has {value.size} bytes; at most {max_bytes} are accepted."
            raise TooLarge(slug, sentence, pointer=f"/{part}/{k}")
        else:
            files.append(value)
    return files


async def _texts(form: FormData, parts: Sequence[str], wrong: list[FieldProblem]) -> dict[str, str]:
    """Return the text of each part that is present, from a plain field or a small file."""
    texts = {}
    for part in parts:
        values = form.getlist(part)
        if len(values) > 1:
            wrong.append(FieldProblem(f"/{part}", "Send this part once."))
        for value in values[:1]:
            if isinstance(value, str):
                texts[part] = value
            elif (value.size or 0) <= _MAX_TEXT_BYTES:
                # A browser's FormData sends a Blob of JSON as a file.
                texts[part] = (await value.read()).decode("utf-8", "replace")
            else:
                wrong.append(FieldProblem(f"/{part}", "Send this part as a short text."))
    return texts


def _checked(check: Callable[[object], str], value: str, wrong: list[FieldProblem]) -> str:
    """Return `check(value)`; if `check` refuses the value, add the problems to `wrong`."""
    try:
        return check(value)
    except Invalid as error:
        wrong.extend(error.errors)
        return ""


async def _training(form: FormData, wrong: list[FieldProblem]) -> dict[str, Any]:
    text = (await _texts(form, ("training",), wrong)).get("training", "").strip()
    if not text:
        return {}
    try:
        options = json.loads(text)
    except (ValueError, RecursionError):
        wrong.append(FieldProblem("/training", "The training options are not valid JSON."))
        return {}
    if not isinstance(options, dict):
        wrong.append(FieldProblem("/training", "The training options must be a JSON object."))
        return {}
    try:
        check_options(TrainConfig, options, defaults={}, resolution=None, pointer="/training")
    except Invalid as error:
        wrong.extend(error.errors)
    return options

"""The multipart forms of pictures and concept files; an error names every unexpected part."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from starlette.datastructures import FormData
from starlette.requests import Request

from api.uploads import form_fields
from perfusion_core.concept import MAX_CONCEPT_BYTES
from perfusion_core.config import TrainConfig
from service import validation as texts
from service.errors import FieldProblem, Invalid
from service.options import check as check_options
from service.pictures.crops import Crop
from service.pictures.uploads import wrong_counts
from service.settings.environment import Settings
from service.webhooks.requests import Webhook

_PARTS = {"images", "masks", "crops", "name", "superclass", "training", "webhook"}
MAX_IMPORT_BYTES = MAX_CONCEPT_BYTES + 2 * form_fields.MAX_TEXT_BYTES
"""The largest body of an import: a concept file, its name, and the form around them."""


@dataclass(frozen=True)
class ConceptForm:
    """The content of POST /concepts: open files, not yet read, and checked texts and numbers."""

    name: str
    superclass: str
    pictures: Sequence[BinaryIO]
    masks: Sequence[BinaryIO]
    crops: Sequence[Crop | None]
    training: dict[str, Any]
    webhook: Webhook | None


@dataclass(frozen=True)
class PicturesForm:
    """The content of POST /pictures/check: open files, not yet read, and a checked text."""

    pictures: Sequence[BinaryIO]
    masks: Sequence[BinaryIO]
    superclass: str | None


@dataclass(frozen=True)
class ImportForm:
    """The content of POST /concepts/import."""

    data: bytes
    name: str | None
    adapt: bool


@asynccontextmanager
async def concept_form(request: Request, *, settings: Settings) -> AsyncIterator[ConceptForm]:
    """Read and check the form of POST /concepts; raise one error that names every wrong part.

    The form's files are open as long as the block runs.
    """
    async with form_fields.open_form(request, folder=settings.spool_dir) as form:
        wrong = form_fields.unexpected(form, _PARTS)
        pictures, masks = _pictures(form, wrong, settings=settings)
        crops = await _crops(form, wrong)
        wrong += wrong_counts(len(pictures), masks=len(masks), crops=len(crops))
        words = await form_fields.texts_of(form, ("name", "superclass"), wrong)
        name = _checked(texts.check_name, words.get("name", ""), wrong)
        superclass = _checked(texts.check_superclass, words.get("superclass", ""), wrong)
        training = await _training(form, wrong)
        webhook = await _webhook(form, wrong)
        if wrong:
            raise Invalid(wrong)
        yield ConceptForm(
            name=name,
            superclass=superclass,
            pictures=pictures,
            masks=masks,
            crops=crops,
            training=training,
            webhook=webhook,
        )


@asynccontextmanager
async def pictures_form(request: Request, *, settings: Settings) -> AsyncIterator[PicturesForm]:
    """Read and check the form of POST /pictures/check, as `concept_form` does."""
    async with form_fields.open_form(request, folder=settings.spool_dir) as form:
        wrong = form_fields.unexpected(form, {"images", "masks", "superclass"})
        pictures, masks = _pictures(form, wrong, settings=settings)
        wrong += wrong_counts(len(pictures), masks=len(masks))
        superclass = (await form_fields.texts_of(form, ("superclass",), wrong)).get("superclass")
        if superclass is not None:
            superclass = _checked(texts.check_superclass, superclass, wrong)
        if wrong:
            raise Invalid(wrong)
        yield PicturesForm(pictures=pictures, masks=masks, superclass=superclass)


async def read_import_form(request: Request, *, settings: Settings) -> ImportForm:
    """Read and check the form of POST /concepts/import."""
    async with form_fields.open_form(request, folder=settings.spool_dir) as form:
        wrong = form_fields.unexpected(form, {"file", "name", "adapt"})
        files = form_fields.files_of(
            form, "file", wrong, max_bytes=MAX_CONCEPT_BYTES, slug="concept-file-too-large"
        )
        if len(files) != 1:
            wrong.append(FieldProblem("/file", "Send one concept file as the part `file`."))
        words = await form_fields.texts_of(form, ("name", "adapt"), wrong)
        name, adapt = words.get("name"), words.get("adapt", "false")
        if name is not None:
            _checked(texts.check_name, name, wrong)
        if adapt not in ("true", "false"):
            wrong.append(FieldProblem("/adapt", "Send true or false."))
        if wrong:
            raise Invalid(wrong)
        return ImportForm(data=await files[0].read(), name=name, adapt=adapt == "true")


def _pictures(
    form: FormData, wrong: list[FieldProblem], *, settings: Settings
) -> tuple[list[BinaryIO], list[BinaryIO]]:
    """Return the files of the parts `images` and `masks`."""
    images, masks = (
        form_fields.files_of(
            form, part, wrong, max_bytes=settings.max_picture_bytes, slug="picture-too-large"
        )
        for part in ("images", "masks")
    )
    return [upload.file for upload in images], [upload.file for upload in masks]


def _checked(check: Callable[[object], str], value: str, wrong: list[FieldProblem]) -> str:
    """Return `check(value)`; if `check` refuses the value, add the problems to `wrong`."""
    try:
        return check(value)
    except Invalid as error:
        wrong.extend(error.errors)
        return ""


async def _crops(form: FormData, wrong: list[FieldProblem]) -> list[Crop | None]:
    text = (await form_fields.texts_of(form, ("crops",), wrong)).get("crops", "").strip()
    try:
        crops = json.loads(text) if text else []
    except (ValueError, RecursionError):
        crops = None
    if not isinstance(crops, list):
        wrong.append(FieldProblem("/crops", "The crops must be a JSON list."))
        return []
    wrong += [
        FieldProblem(f"/crops/{number}", "A crop is [x, y, width, height] in pixels, or null.")
        for number, crop in enumerate(crops[: form_fields.MAX_FILES])
        if crop is not None and not _is_crop(crop)
    ]
    return [None if crop is None or not _is_crop(crop) else tuple(crop) for crop in crops]


def _is_crop(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(type(v) is int for v in value)


async def _training(form: FormData, wrong: list[FieldProblem]) -> dict[str, Any]:
    options = await _json_object(form, "training", wrong)
    if options is None:
        return {}
    try:
        check_options(TrainConfig, options, defaults={}, resolution=None, pointer="/training")
    except Invalid as error:
        wrong.extend(error.errors)
    return options


async def _webhook(form: FormData, wrong: list[FieldProblem]) -> Webhook | None:
    given = await _json_object(form, "webhook", wrong)
    if given is None:
        return None
    try:
        return Webhook.read(given)
    except Invalid as error:
        wrong += [FieldProblem(f"/webhook{each.pointer}", each.detail) for each in error.errors]
        return None


async def _json_object(
    form: FormData, part: str, wrong: list[FieldProblem]
) -> dict[str, Any] | None:
    """Return the JSON object in a part; None if the part is missing, or wrong."""
    text = (await form_fields.texts_of(form, (part,), wrong)).get(part, "").strip()
    if not text:
        return None
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        wrong.append(FieldProblem(f"/{part}", "Send this part as a JSON object."))
        return None
    return given

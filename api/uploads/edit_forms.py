"""The multipart form of an edit: the request as JSON, the picture, and the mask."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import FormData
from starlette.requests import Request

from api.uploads import form_fields
from service.errors import FieldProblem, Invalid, invalid
from service.generations.requests import GenerateRequest
from service.settings.environment import Settings


@dataclass(frozen=True)
class GenerateForm:
    """The content of POST /generate as a form: open files, not yet read, and the request."""

    body: GenerateRequest
    image: BinaryIO | None
    mask_image: BinaryIO | None


@asynccontextmanager
async def generate_form(request: Request, *, settings: Settings) -> AsyncIterator[GenerateForm]:
    """Read and check the form of an edit; the form's files are open as long as the block runs.

    Raise Invalid for wrong parts, and for a wrong request what the same request alone raises.
    """
    async with form_fields.open_form(request, folder=settings.spool_dir) as form:
        wrong = form_fields.unexpected(form, {"request", "image", "mask_image"})
        image = _file(form, "image", wrong, settings=settings)
        mask_image = _file(form, "mask_image", wrong, settings=settings)
        text = (await form_fields.texts_of(form, ("request",), wrong)).get("request")
        if text is None and not wrong:
            wrong.append(FieldProblem("/request", "Send the request as JSON in this part."))
        if wrong:
            raise Invalid(wrong)
        yield GenerateForm(body=_request(text or ""), image=image, mask_image=mask_image)


def _file(
    form: FormData, part: str, wrong: list[FieldProblem], *, settings: Settings
) -> BinaryIO | None:
    files = form_fields.files_of(
        form, part, wrong, max_bytes=settings.max_picture_bytes, slug="picture-too-large"
    )
    if len(files) > 1:
        wrong.append(FieldProblem(f"/{part}", "Send this part once."))
    return files[0].file if files else None


def _request(text: str) -> GenerateRequest:
    try:
        given: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise invalid("/request", "The request is not valid JSON.") from None
    if not isinstance(given, dict):
        raise invalid("/request", "The request must be a JSON object.")
    try:
        return GenerateRequest.model_validate(given)
    except ValidationError as error:
        # As the framework raises it for a body of JSON, so that the answers are alike.
        found = error.errors(include_url=False, include_input=False)
        raise RequestValidationError(
            [{**item, "loc": ("body", *item["loc"])} for item in found]
        ) from None

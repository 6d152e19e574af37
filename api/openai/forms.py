"""The form of an edit, as OpenAI's clients send it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from api.openai.requests import ImagesRequest
from api.uploads.spool import read_form
from service.errors import FieldProblem, Invalid, UnsupportedMedia
from service.field_problems import field_problems
from service.settings.environment import Settings

# A client that is given a list of pictures sends each as `image[]`.
_FILES: Final = {"image": "image", "image[]": "image", "mask": "mask"}
_MAX_FILES, _MAX_FIELDS, _MAX_TEXT_BYTES = 20, 40, 64 * 1024


@dataclass(frozen=True)
class EditForm:
    """The content of POST /v1/images/edits: the files are open and not yet read."""

    asked: ImagesRequest
    image: BinaryIO
    mask: BinaryIO | None


@asynccontextmanager
async def edit_form(request: Request, *, settings: Settings) -> AsyncIterator[EditForm]:
    """Read and check the form; raise one error that names every wrong part.

    The form's files are open as long as the block runs.
    """
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type != "multipart/form-data":
        raise UnsupportedMedia("unsupported-media", "Send the body as multipart/form-data.")
    form = await read_form(
        request,
        folder=settings.spool_dir,
        max_files=_MAX_FILES,
        max_fields=_MAX_FIELDS,
        max_text_bytes=_MAX_TEXT_BYTES,
    )
    try:
        wrong: list[FieldProblem] = []
        texts: dict[str, str] = {}
        files: dict[str, list[BinaryIO]] = {"image": [], "mask": []}
        for part, value in form.multi_items():
            of_file = isinstance(value, UploadFile)
            if of_file != (part in _FILES):
                kind = "text" if of_file else "a file, with a filename"
                wrong.append(FieldProblem(f"/{part}", f"Send this part as {kind}."))
            elif isinstance(value, UploadFile):
                files[_FILES[part]].append(value.file)
            elif part in texts:
                wrong.append(FieldProblem(f"/{part}", "Send this part once."))
            else:
                texts[part] = value
        if len(files["image"]) != 1 and not wrong:
            wrong.append(FieldProblem("/image", "Send one picture; several are not combined here."))
        if len(files["mask"]) > 1:
            wrong.append(FieldProblem("/mask", "Send this part once."))
        asked = _read(texts, wrong)
        if asked is None or wrong:
            raise Invalid(wrong)
        yield EditForm(asked=asked, image=files["image"][0], mask=next(iter(files["mask"]), None))
    finally:
        await form.close()


def _read(texts: dict[str, str], wrong: list[FieldProblem]) -> ImagesRequest | None:
    try:
        return ImagesRequest.model_validate_strings(texts, strict=False)
    except ValidationError as error:
        wrong += field_problems(error.errors(include_url=False, include_input=False))
        return None


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a form's part, which cannot be null, from the one of a field."""
    branch = next(iter(schema.get("anyOf", ())), schema)
    shown = {name: schema[name] for name in ("description", "examples") if name in schema}
    return {name: value for name, value in branch.items() if name != "title"} | shown


_FILE: Final = {"type": "string", "format": "binary"}
EDIT_PARTS: Final = {
    "image": {**_FILE, "description": "The picture to start from. What is transparent is white."},
    "mask": {
        **_FILE,
        "description": "As large as the picture. What is transparent is painted anew, and all else "
        "stays to the pixel. Left out: image to image.",
    },
    **{
        name: _plain(schema)
        for name, schema in ImagesRequest.model_json_schema()["properties"].items()
    },
}

"""The parts of multipart forms: files of a limited size, short texts, and names that are unknown.

The framework's parser limits the number and the size of text fields, but not the size of files.
This module limits files: the limit on the whole body bounds all files together, and each file has a
limit of its own.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from starlette.datastructures import FormData, Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from api.uploads.spool import read_form
from service.errors import FieldProblem, Invalid, TooLarge, UnsupportedMedia
from service.field_problems import field_problems
from service.pictures.uploads import MAX_PICTURES, wrong_counts

MAX_FILES = 4 * MAX_PICTURES  # enough to report how many there are too many, but limited
MAX_TEXT_BYTES = 64 * 1024
_MAX_FIELDS = 32


def is_form(headers: Headers) -> bool:
    """Return whether a body calls itself a multipart form."""
    media_type = headers.get("content-type", "").split(";")[0].strip().lower()
    return media_type == "multipart/form-data"


@asynccontextmanager
async def open_form(request: Request, *, folder: str) -> AsyncIterator[FormData]:
    """Return the request's form, limited in size; replace the parser's error texts by our own."""
    if not is_form(request.headers):
        raise UnsupportedMedia("unsupported-media", "Send the body as multipart/form-data.")
    try:
        form = await read_form(
            request,
            folder=folder,
            max_files=MAX_FILES,
            max_fields=_MAX_FIELDS,
            max_text_bytes=MAX_TEXT_BYTES,
        )
    except HTTPException as error:
        if error.detail.startswith("Too many files"):
            raise Invalid(wrong_counts(MAX_FILES)) from error
        raise
    try:
        yield form
    finally:
        await form.close()


def unexpected(form: FormData, known: set[str]) -> list[FieldProblem]:
    """Return a problem for each part whose name is not known."""
    strangers = [{"loc": (name,), "type": "extra_forbidden", "msg": ""} for name in form]
    return field_problems(item for item in strangers if item["loc"][0] not in known)


def files_of(
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


async def texts_of(
    form: FormData, names: Sequence[str], wrong: list[FieldProblem]
) -> dict[str, str]:
    """Return the text of each part that is present, from a plain field or a small file."""
    texts = {}
    for part in names:
        values = form.getlist(part)
        if len(values) > 1:
            wrong.append(FieldProblem(f"/{part}", "Send this part once."))
        for value in values[:1]:
            if isinstance(value, str):
                texts[part] = value
            elif (value.size or 0) <= MAX_TEXT_BYTES:
                # A browser's FormData sends a Blob of JSON as a file.
                texts[part] = (await value.read()).decode("utf-8", "replace")
            else:
                wrong.append(FieldProblem(f"/{part}", "Send this part as a short text."))
    return texts

"""Concepts: teach, list, look at, fetch, import, delete."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from typing import Annotated

from anyio import sleep, to_thread
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from api.accepted import accepted
from api.dependencies import (
    ConceptList,
    ConceptRef,
    OptionalIdempotency,
    Reader,
    ServiceDep,
    State,
    StateDep,
    Trainer,
    body_bytes,
    with_blobs,
)
from api.files import FORGET, IfNoneMatch, file_answer, file_responses
from api.openapi import ACCEPTED_HEADERS, FORGOTTEN_HEADERS, headers, refusals
from api.uploads import forms, places
from api.uploads.openapi_forms import CONCEPT_FORM, IMPORT_FORM
from service.blobs.store import StoredFile
from service.concepts import exports, imports
from service.concepts import use_cases as concepts
from service.concepts.views import ConceptAccepted, ConceptView
from service.idempotency import Answer
from service.pages import Page
from service.pictures import uploads

router = APIRouter(tags=["concepts"])

_SAFETENSORS, _ZIP = "application/octet-stream", "application/zip"
_LONGEST_WAIT_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 0.25


async def _concept_form(
    request: Request, state: StateDep, caller: Trainer
) -> AsyncIterator[forms.ConceptForm]:
    # Check storage and limits first, so that a refused upload is not read.
    await places.check_room(request, state, caller)
    with places.hold(request, state, caller):
        async with forms.concept_form(request, settings=state["service"].settings) as form:
            yield form


async def _import_form(
    request: Request, state: StateDep, caller: Trainer
) -> AsyncIterator[forms.ImportForm]:
    await places.check_room(request, state, caller)
    limits = state["concurrency"]
    size_bytes = body_bytes(request, most=forms.MAX_IMPORT_BYTES)
    with limits.imports.hold(caller), limits.all_imports.hold(size_bytes):
        yield await forms.read_import_form(request, settings=state["service"].settings)


@router.post(
    "/concepts",
    status_code=202,
    summary="Teach a concept",
    response_model=ConceptAccepted,
    responses={
        202: {"description": "Accepted.", "headers": ACCEPTED_HEADERS},
        **refusals(400, 408, 409, 413, 415, 507),
    },
    openapi_extra=CONCEPT_FORM,
)
async def create_concept(
    state: StateDep,
    caller: Trainer,
    idempotency: OptionalIdempotency,
    form: Annotated[forms.ConceptForm, Depends(_concept_form)],
) -> JSONResponse:
    """Teach a concept from 1 to 20 pictures of one subject; 4 or 5 are usually enough.

    The answer names the job that trains the concept. The status is 409 if the name is taken.
    `POST /pictures/check` finds out first whether the pictures are good to train on.
    """
    service = state["service"]

    def work() -> Answer:
        decoding = uploads.read_pictures(service, images=form.pictures, masks=form.masks)
        with closing(decoding) as pictures:
            return concepts.create(
                service,
                caller,
                name=form.name,
                superclass=form.superclass,
                pictures=pictures,
                training=form.training,
                crops=form.crops,
                webhook=form.webhook,
                idempotency=idempotency,
            )

    answer = await to_thread.run_sync(work, limiter=state["uploads"])
    return accepted(answer)


@router.post(
    "/concepts/import",
    status_code=201,
    summary="Import a concept file",
    response_model=ConceptView,
    responses={
        201: {"description": "Ready to use.", "headers": headers(Location="`/concepts/{id}`.")},
        202: {
            "description": "Adapted and ready to use; the job measures it on this base model.",
            "model": ConceptAccepted,
            "headers": ACCEPTED_HEADERS,
        },
        **refusals(400, 408, 409, 413, 415, 507),
    },
    openapi_extra=IMPORT_FORM,
)
async def import_concept(
    state: StateDep, caller: Trainer, form: Annotated[forms.ImportForm, Depends(_import_form)]
) -> JSONResponse:
    """Import a concept file; 409, naming both fingerprints, if base model or covariance differ.

    With `adapt` the file may be of a sibling base model: 202, and a job of kind `judge`. The
    concept can be used at once. Its `verdict` is null until the job has measured it.
    """
    imported = await to_thread.run_sync(
        lambda: imports.import_file(
            state["service"], caller, data=form.data, name=form.name, adapt=form.adapt
        ),
        limiter=state["imports"],
    )
    if isinstance(imported, ConceptView):
        status_code, location = 201, f"/concepts/{imported.id}"
    else:
        status_code, location = 202, f"/jobs/{imported.job.id}"
    return JSONResponse(imported.to_json(), status_code=status_code, headers={"Location": location})


@router.get(
    "/concepts",
    summary="List concepts",
    response_model=Page[ConceptView],
    responses=refusals(),
)
def list_concepts(service: ServiceDep, caller: Reader, query: ConceptList) -> JSONResponse:
    """Newest first."""
    page = concepts.list_page(
        service, caller, limit=query.limit, cursor=query.cursor, status=query.status
    )
    return JSONResponse(page.to_json())


@router.get(
    "/concepts/{ref}",
    summary="Look at a concept",
    response_model=ConceptView,
    responses=refusals(404),
)
def get_concept(service: ServiceDep, caller: Reader, ref: ConceptRef) -> JSONResponse:
    """Return a concept by its id or name."""
    return JSONResponse(concepts.get(service, caller, ref=ref).to_json())


@router.delete(
    "/concepts/{ref}",
    status_code=204,
    summary="Delete a concept",
    response_class=Response,
    responses={204: {"description": "Gone.", "headers": FORGOTTEN_HEADERS}, **refusals(404)},
)
async def delete_concept(state: StateDep, caller: Trainer, ref: ConceptRef) -> Response:
    """Delete the concept with its pictures, file and row. Images already generated remain."""
    await with_blobs(state, lambda: concepts.delete(state["service"], caller, ref=ref))
    return Response(status_code=204, headers=FORGET)


@router.get(
    "/concepts/{ref}/file",
    summary="Fetch a concept's file",
    response_class=Response,
    responses=file_responses(
        "A safetensors file, whose metadata names the base model, or a zip.",
        404,
        409,
        media_types=(_SAFETENSORS, _ZIP),
    ),
)
async def get_concept_file(
    state: StateDep,
    caller: Reader,
    ref: ConceptRef,
    file_format: Annotated[
        exports.FileFormat,
        Query(
            alias="format",
            description="`perfusion`: the concept file. `lora` and `embedding`: for other tools, "
            "which need both. `zip`: all three with a card.",
        ),
    ] = "perfusion",
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return the concept's file; 409 while the concept is not ready.

    A LoRA is made at the first request for it, which may take some seconds. It needs the concept's
    base model: 409 if another one is served and the LoRA was not made before.
    """

    def read() -> StoredFile:
        return exports.read(state["service"], caller, ref=ref, file_format=file_format)

    file = await _when_made(state, read)
    return file_answer(
        file.data,
        media_type=_ZIP if file_format == "zip" else _SAFETENSORS,
        sha256=file.sha256,
        disposition=f'attachment; filename="{file.name}"',
        if_none_match=if_none_match,
        immutable=False,
    )


async def _when_made(state: State, read: Callable[[], StoredFile]) -> StoredFile:
    """Return a file as soon as a worker has made it; no thread is held in the meantime."""
    give_up_at = time.monotonic() + _LONGEST_WAIT_SECONDS
    while True:
        try:
            return await with_blobs(state, read)
        except exports.NotMadeYet:
            if time.monotonic() >= give_up_at:
                raise
        await sleep(_LOOK_AGAIN_SECONDS)

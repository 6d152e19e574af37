"""Concepts: teach, list, look at, fetch, import, delete."""

from collections.abc import AsyncIterator
from contextlib import closing
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

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
from api.files import NOT_MODIFIED, file_answer, file_headers
from api.openapi import ACCEPTED_HEADERS, CONCEPT_FORM, IMPORT_FORM, headers, refusals
from api.uploads import forms
from service import quota
from service.concepts import use_cases as concepts
from service.concepts.views import ConceptAccepted, ConceptView
from service.idempotency import Answer
from service.pages import Page
from service.pictures import uploads

router = APIRouter(tags=["concepts"])


async def _concept_form(
    request: Request, state: StateDep, caller: Trainer
) -> AsyncIterator[forms.ConceptForm]:
    # Check storage and limits first, so that a refused upload is not read.
    if "idempotency-key" not in request.headers:  # a repeated request gets its first answer
        await _check_room(state, caller)
    settings, limits = state["service"].settings, state["concurrency"]
    size_bytes = body_bytes(request, most=settings.max_body_bytes)
    with limits.uploads.hold(caller), limits.all_uploads.hold(size_bytes):
        async with forms.concept_form(request, settings=settings) as form:
            yield form


async def _import_form(
    request: Request, state: StateDep, caller: Trainer
) -> AsyncIterator[forms.ImportForm]:
    await _check_room(state, caller)
    limits = state["concurrency"]
    size_bytes = body_bytes(request, most=forms.MAX_IMPORT_BYTES)
    with limits.imports.hold(caller), limits.all_imports.hold(size_bytes):
        yield await forms.read_import_form(request, settings=state["service"].settings)


async def _check_room(state: State, caller: str) -> None:
    if state["service"].settings.max_bytes_per_owner is not None:
        await run_in_threadpool(quota.check_room, state["service"], caller)


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
                idempotency=idempotency,
            )

    answer = await to_thread.run_sync(work, limiter=state["uploads"])
    answer_headers = {"Location": answer.location}
    if answer.replayed:
        answer_headers["Idempotency-Replayed"] = "true"
    return JSONResponse(answer.body, status_code=202, headers=answer_headers)


@router.post(
    "/concepts/import",
    status_code=201,
    summary="Import a concept file",
    response_model=ConceptView,
    responses={
        201: {"description": "Ready to use.", "headers": headers(Location="`/concepts/{id}`.")},
        **refusals(400, 408, 409, 413, 415, 507),
    },
    openapi_extra=IMPORT_FORM,
)
async def import_concept(
    state: StateDep, caller: Trainer, form: Annotated[forms.ImportForm, Depends(_import_form)]
) -> JSONResponse:
    """Import a concept file; 409, naming both fingerprints, if base model or covariance differ."""
    concept = await to_thread.run_sync(
        lambda: concepts.import_file(state["service"], caller, data=form.data, name=form.name),
        limiter=state["imports"],
    )
    location = {"Location": f"/concepts/{concept.id}"}
    return JSONResponse(concept.to_json(), status_code=201, headers=location)


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
    responses={204: {"description": "Gone."}, **refusals(404)},
)
async def delete_concept(state: StateDep, caller: Trainer, ref: ConceptRef) -> Response:
    """Delete the concept with its pictures, file and row. Images already generated remain."""
    await with_blobs(state, lambda: concepts.delete(state["service"], caller, ref=ref))
    return Response(status_code=204)


@router.get(
    "/concepts/{ref}/file",
    summary="Fetch a concept's file",
    response_class=Response,
    responses={
        200: {
            "description": "The safetensors file; its metadata names the base model.",
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
            },
            "headers": file_headers(),
        },
        304: NOT_MODIFIED,
        **refusals(404, 409),
    },
)
async def get_concept_file(
    state: StateDep,
    caller: Reader,
    ref: ConceptRef,
    if_none_match: Annotated[str | None, Header(alias="If-None-Match")] = None,
) -> Response:
    """Return the concept's file; 409 while the concept is not ready."""
    file = await with_blobs(state, lambda: concepts.read_file(state["service"], caller, ref=ref))
    return file_answer(
        file.data,
        media_type="application/octet-stream",
        sha256=file.sha256,
        disposition=f'attachment; filename="{file.name}.safetensors"',
        if_none_match=if_none_match,
        immutable=False,
    )

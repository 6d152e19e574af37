"""Pictures: check them before they train a concept, and look at those of a concept or check."""

from collections.abc import AsyncIterator
from contextlib import closing
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import JSONResponse

from api.accepted import accepted
from api.dependencies import (
    ConceptRef,
    ImageReader,
    OptionalIdempotency,
    Reader,
    ServiceDep,
    StateDep,
    Trainer,
    with_blobs,
)
from api.files import IfNoneMatch, file_responses, picture_answer
from api.openapi import ACCEPTED_HEADERS, refusals
from api.uploads import forms, places
from api.uploads.openapi_forms import PICTURES_FORM
from service.concepts import pictures as concept_pictures
from service.concepts.views import ConceptPicturesView
from service.idempotency import Answer
from service.jobs import use_cases as jobs
from service.jobs.views import JobAnswer
from service.pictures import inspections, uploads

router = APIRouter(tags=["concepts"])


async def _pictures_form(
    request: Request, state: StateDep, caller: Trainer
) -> AsyncIterator[forms.PicturesForm]:
    # Check storage and limits first, so that a refused upload is not read.
    await places.check_room(request, state, caller)
    with places.hold(request, state, caller):
        async with forms.pictures_form(request, settings=state["service"].settings) as form:
            yield form


@router.post(
    "/pictures/check",
    status_code=202,
    summary="Check pictures before teaching",
    response_model=JobAnswer,
    responses={
        202: {"description": "Accepted.", "headers": ACCEPTED_HEADERS},
        **refusals(400, 408, 413, 415, 507),
    },
    openapi_extra=PICTURES_FORM,
)
async def check_pictures(
    state: StateDep,
    caller: Trainer,
    idempotency: OptionalIdempotency,
    form: Annotated[forms.PicturesForm, Depends(_pictures_form)],
) -> JSONResponse:
    """Find out what is wrong with pictures, and what a training would see of them.

    The answer names a job of the kind `inspect`. Its `pictures` say what was found, for an hour.
    """
    service = state["service"]

    def work() -> Answer:
        decoding = uploads.read_pictures(service, images=form.pictures, masks=form.masks)
        with closing(decoding) as pictures:
            return inspections.request(
                service,
                caller,
                pictures=pictures,
                superclass=form.superclass,
                idempotency=idempotency,
            )

    answer = await to_thread.run_sync(work, limiter=state["uploads"])
    return accepted(answer)


@router.get(
    "/jobs/{id}/pictures/{k}/mask",
    summary="See the mask that a check chose",
    response_class=Response,
    responses=file_responses(
        "The mask in grey as a PNG of the stored picture's size; white is the subject.", 404
    ),
)
async def get_picture_mask(
    state: StateDep,
    reader: ImageReader,
    id: str,
    k: Annotated[int, Path(ge=0, le=1000, description="The picture's `index`.")],
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return the mask that a training would use for a picture; 404 if the mask is uniform.

    The `signed_mask_url` of a job's picture gives access without a key, for at least 10 minutes.
    """
    mask = await with_blobs(
        state, lambda: jobs.read_mask(state["service"], reader, job_id=id, number=k)
    )
    return picture_answer(mask, reader, name=f"{id}-mask-{k}.png", if_none_match=if_none_match)


@router.get(
    "/concepts/{ref}/pictures",
    summary="List a concept's pictures",
    response_model=ConceptPicturesView,
    responses=refusals(404),
)
def list_concept_pictures(
    state: StateDep, service: ServiceDep, caller: Reader, ref: ConceptRef
) -> JSONResponse:
    """List the pictures and masks that a concept was trained on, until the concept is deleted.

    An imported concept has none.
    """
    pictures = concept_pictures.list_all(service, caller, ref=ref)
    return JSONResponse(state["signed_urls"].pictures_to_json(pictures))


@router.get(
    "/concepts/{id}/pictures/{k}",
    summary="Fetch a concept's picture",
    response_class=Response,
    responses=file_responses("The picture as it was trained on: upright, in sRGB, a PNG.", 404),
)
async def get_concept_picture(
    state: StateDep,
    reader: ImageReader,
    id: str,
    k: Annotated[int, Path(ge=0, le=1000, description="Its place in the list, from 0.")],
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return a picture that a concept was trained on.

    The `signed_url` of a picture gives access without a key, for at least 10 minutes.
    """
    picture = await with_blobs(
        state,
        lambda: concept_pictures.read(state["service"], reader, concept_id=id, number=k),
    )
    return picture_answer(
        picture, reader, name=f"{id}-{k}.png", if_none_match=if_none_match, immutable=False
    )


@router.get(
    "/concepts/{id}/pictures/{k}/mask",
    summary="Fetch the mask of a concept's picture",
    response_class=Response,
    responses=file_responses(
        "The mask in grey as a PNG of the picture's size; white is the subject.", 404
    ),
)
async def get_concept_picture_mask(
    state: StateDep,
    reader: ImageReader,
    id: str,
    k: Annotated[int, Path(ge=0, le=1000, description="The picture's place in the list.")],
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return the mask of a picture that a concept was trained on; 404 if it has none."""
    mask = await with_blobs(
        state,
        lambda: concept_pictures.read(state["service"], reader, concept_id=id, number=k, mask=True),
    )
    return picture_answer(
        mask, reader, name=f"{id}-{k}-mask.png", if_none_match=if_none_match, immutable=False
    )

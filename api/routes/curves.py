"""Serve operating curves of concepts: each strength's results, and the recommended strength."""

from typing import Annotated

from fastapi import APIRouter, Path, Response
from fastapi.responses import JSONResponse

from api.dependencies import ConceptRef, Reader, StateDep, with_blobs
from api.files import IfNoneMatch, file_responses, picture_answer
from api.openapi import refusals
from service.concepts import curves
from service.concepts.views import CurveView

router = APIRouter(tags=["concepts"])


@router.get(
    "/concepts/{ref}/curve",
    summary="See how strength changes a concept",
    response_model=CurveView,
    responses=refusals(404, 409),
)
async def get_concept_curve(state: StateDep, caller: Reader, ref: ConceptRef) -> JSONResponse:
    """Return the curve that a worker with an evaluator made at the end of the training.

    The curve is part of the concept's file. The status is 404 if the concept has no curve, and 409
    while the concept is not ready.
    """
    curve = await with_blobs(state, lambda: curves.get(state["service"], caller, ref=ref))
    return JSONResponse(curve.to_json())


@router.get(
    "/concepts/{ref}/curve/{k}",
    summary="Fetch a thumbnail of a curve",
    response_class=Response,
    responses=file_responses(
        "A small image of the concept at the strength of point `k`.",
        404,
        409,
        media_types=(curves.THUMBNAIL_MEDIA_TYPE,),
    ),
)
async def get_curve_thumbnail(
    state: StateDep,
    caller: Reader,
    ref: ConceptRef,
    k: Annotated[int, Path(ge=0, lt=2**31, description="Which point of the curve, from 0.")],
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return the thumbnail that `thumbnail_url` of the curve names."""
    image = await with_blobs(
        state, lambda: curves.read_thumbnail(state["service"], caller, ref=ref, index=k)
    )
    return picture_answer(
        image,
        caller,
        name=f"curve-{k}.webp",
        if_none_match=if_none_match,
        media_type=curves.THUMBNAIL_MEDIA_TYPE,
        immutable=False,
    )

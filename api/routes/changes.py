"""Rename and describe concepts."""

from typing import Annotated

from fastapi import APIRouter, Body
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from api.dependencies import ConceptRef, ServiceDep, Trainer
from api.openapi import refusals
from api.routes.guarded import GuardedRoute
from service.concepts import changes
from service.concepts.changes import ConceptChanges
from service.concepts.views import ConceptView

router = APIRouter(tags=["concepts"], route_class=GuardedRoute)


@router.patch(
    "/concepts/{ref}",
    summary="Rename or describe a concept",
    response_model=ConceptView,
    responses=refusals(400, 404, 408, 409, 413, 415),
)
async def update_concept(
    service: ServiceDep, caller: Trainer, ref: ConceptRef, body: Annotated[ConceptChanges, Body()]
) -> JSONResponse:
    """Change a concept's name or description; the status is 409 if the name is taken.

    The concept's file stays the same, and jobs that were accepted before go on.
    """
    view = await run_in_threadpool(changes.change, service, caller, ref=ref, changes=body)
    return JSONResponse(view.to_json())

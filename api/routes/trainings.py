"""Train a concept again, and revert to the previous file."""

from typing import Annotated

from fastapi import APIRouter, Body
from fastapi.responses import JSONResponse
from pydantic import ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from api.accepted import accepted, replay_headers
from api.dependencies import (
    ConceptRef,
    OptionalIdempotency,
    ServiceDep,
    StateDep,
    Trainer,
    with_blobs,
)
from api.openapi import ACCEPTED_HEADERS, headers, refusals
from api.routes.guarded import GuardedRoute
from service.concepts import trainings, versions
from service.concepts.views import ConceptAccepted, ConceptView
from service.jobs.payloads import DEFAULT_REPLACE, Replace
from service.options import TrainingOptions
from service.webhooks.requests import Webhook

router = APIRouter(tags=["concepts"], route_class=GuardedRoute)
_REPLAYED = headers(Idempotency_Replayed="`true` where this is the first answer again.")


class TrainAgainRequest(TrainingOptions):
    """Options of another training, and whether its file replaces the previous file.

    An option that is left out takes the base model's own default.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"seed": 7}]})

    replace: Annotated[
        Replace,
        Field(
            description="`if-better`: the new file replaces the old one if the old one is for "
            "another base model, if the new verdict is better (`good` above the others), or if "
            "verdicts are equal and the new balance at the recommended strength is higher or was "
            "measured in another way; without an evaluator it is always replaced."
        ),
    ] = DEFAULT_REPLACE
    webhook: Annotated[
        Webhook | None, Field(description="Where to send the job once it has ended.")
    ] = None


@router.post(
    "/concepts/{ref}/train",
    status_code=202,
    summary="Train a concept again",
    response_model=ConceptAccepted,
    responses={
        202: {"description": "Accepted.", "headers": ACCEPTED_HEADERS},
        **refusals(400, 404, 408, 409, 413, 415, 507),
    },
)
async def train_concept_again(
    service: ServiceDep,
    caller: Trainer,
    idempotency: OptionalIdempotency,
    ref: ConceptRef,
    body: Annotated[TrainAgainRequest, Body()] = TrainAgainRequest(),  # noqa: B008
) -> JSONResponse:
    """Train the concept again on its pictures.

    A ready concept uses its present file until the new file replaces it. An option that is left out
    takes the base model's own default instead of the previous training's value. The status is 409
    while the concept is in training, and for an imported concept, because an imported concept has
    no pictures here.
    """
    given = body.model_dump(exclude_unset=True, exclude={"replace", "webhook"})
    answer = await run_in_threadpool(
        trainings.train_again,
        service,
        caller,
        ref=ref,
        training=given,
        replace=body.replace,
        webhook=body.webhook,
        idempotency=idempotency,
    )
    return accepted(answer)


@router.post(
    "/concepts/{ref}/revert",
    summary="Go back to the file before",
    response_model=ConceptView,
    responses={
        200: {"description": "The two files have changed places.", "headers": _REPLAYED},
        **refusals(404, 409),
    },
)
async def revert_concept(
    state: StateDep, caller: Trainer, idempotency: OptionalIdempotency, ref: ConceptRef
) -> JSONResponse:
    """Swap the concept's file with the previous file; a second call swaps both back.

    The status is 409 if the concept has no previous file, and while the concept is in training.
    """
    answer = await with_blobs(
        state,
        lambda: versions.revert(state["service"], caller, ref=ref, idempotency=idempotency),
    )
    return JSONResponse(answer.body, headers=replay_headers(answer))

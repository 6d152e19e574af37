"""Serve the data about the base model that a client needs to offer its options."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from api.dependencies import Caller, ServiceDep
from api.openapi import refusals
from service import base_models
from service.base_models import BaseModelInfo

router = APIRouter(tags=["service"])


@router.get(
    "/models",
    summary="Look at the base model",
    response_model=BaseModelInfo,
    responses=refusals(),
)
@router.get(
    "/base-model",
    name="get_base_model_by_alias",
    summary="Look at the base model (alias of `/models`)",
    response_model=BaseModelInfo,
    responses=refusals(),
)
def get_base_model(service: ServiceDep, _: Caller) -> JSONResponse:
    """Return the base model's identity, default options, and option bounds (as JSON schema).

    `max_pixels` depends on the base model's size. `max_pixels` limits an image's width times
    height. `max_pixels` also limits a training's train_batch_size times the square of the
    training's resolution. The status is 503 until a worker has loaded the base model for the first
    time.
    """
    return JSONResponse(base_models.describe(service).to_json())

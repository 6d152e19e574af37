"""The base model that the workers serve: what a client must know to offer its options."""

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
    summary="Look at the base model (alias of `/models`)",
    response_model=BaseModelInfo,
    responses=refusals(),
)
def get_base_model(service: ServiceDep, _: Caller) -> JSONResponse:
    """Its identity, its default for every option, and the bounds of each as JSON schema.

    `max_pixels` bounds width times height of an image, and train_batch_size times the square of
    the resolution of a training, by the base model's size. 503 until a worker has loaded it for
    the first time.
    """
    return JSONResponse(base_models.describe(service).to_json())

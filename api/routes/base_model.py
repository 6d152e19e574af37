"""The base model that the workers serve: what a client must know to offer its options."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from api import schemas
from api.dependencies import Caller, ServiceDep
from api.openapi import refusals
from perfusion_core.config import BaseModelDefaults, max_pixels, max_sides
from service import base_models
from service.errors import Unavailable

router = APIRouter(tags=["service"])

_RETRY_SECONDS = 5
# Of a request, but nothing that a base model has defaults or bounds for.
_NOT_OPTIONS = ("prompt", "concepts", "attention_maps")


@router.get(
    "/base-model",
    summary="Look at the base model",
    response_model=schemas.BaseModelInfo,
    responses=refusals(),
)
def get_base_model(service: ServiceDep, _: Caller) -> JSONResponse:
    """Its identity, its default for every option, and the bounds of each as JSON schema.

    `max_pixels` bounds width times height of an image, and train_batch_size times the square of
    the resolution of a training, by the base model's size. 503 until a worker has loaded it for
    the first time.
    """
    model = base_models.current_base_model(service)
    if model is None:
        raise Unavailable(
            "no-base-model",
            "No worker has loaded the base model yet. Wait until /readyz answers 200.",
            retry_after_seconds=_RETRY_SECONDS,
        )
    kinds = ("train", "generate")
    side = base_models.resolution(model)
    sides = max_sides(side) if side else {}
    overrides = {kind: base_models.defaults(model, of=kind) for kind in kinds}
    defaults = BaseModelDefaults(**overrides)
    return JSONResponse(
        {
            "name": model.name,
            "family": model.family,
            "fingerprint": model.fingerprint,
            "covariance_fingerprint": model.covariance_fingerprint,
            # Every supported family was trained on squares, and a worker tells their side.
            "resolution": {"width": side, "height": side} if side else None,
            "max_pixels": max_pixels(side) if side else None,
            "defaults": {
                "train": asdict(defaults.train_config()),
                "generate": asdict(defaults.generate_config()),
            },
            "bounds": {
                "train": _bounds(schemas.TrainingOptions, sides.get("train", {})),
                "generate": _bounds(
                    schemas.GenerateRequest, sides.get("generate", {}), without=_NOT_OPTIONS
                ),
            },
        }
    )


def _bounds(
    model: type[BaseModel], largest: dict[str, int], *, without: tuple[str, ...] = ()
) -> dict[str, Any]:
    properties = model.model_json_schema()["properties"]
    for name, maximum in largest.items():
        for schema in properties[name].get("anyOf", [properties[name]]):
            if "maximum" in schema:
                schema["maximum"] = maximum
    return {name: schema for name, schema in properties.items() if name not in without}

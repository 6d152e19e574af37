"""The base model that workers serve.

Workers write the base model's row; the API only reads the row.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import Connection, select, update
from sqlalchemy.orm import Session

from perfusion_core.config import BaseModelDefaults
from perfusion_core.defaults.bounds import max_pixels, max_sides
from perfusion_core.evaluation.calibration import Calibration
from perfusion_core.shared_parts import SharedParts
from perfusion_core.siblings import BaseModelIdentity
from service.database.tables import BaseModelRow
from service.errors import Unavailable
from service.options import GenerationOptions, Inbound, TrainingOptions
from service.views import View
from service.wiring import Service

# The base model registered last; other statements may include this one.
CURRENT = select(*BaseModelRow.__table__.c).order_by(BaseModelRow.seen_at.desc()).limit(1)
_SERVED = CURRENT.with_only_columns(
    BaseModelRow.name,
    BaseModelRow.fingerprint,
    BaseModelRow.covariance_fingerprint,
    BaseModelRow.info["calibration"],
)
_KEPT = "service.base_models.served"
_RETRY_SECONDS = 5


@dataclass(frozen=True, kw_only=True)
class RegisteredBaseModel:
    """A base model that a worker has loaded, as that worker describes it.

    `info` is JSON-ready. The service reads these fields of `info`:
    `defaults`: `{"train": {...}, "generate": {...}}`, which override the method's defaults;
    `known_superclasses`: the kinds of things that it was trained to draw, if these are few;
    `resolution`: the side in pixels; `shared_parts`: what siblings of the base model share;
    `calibration`: the thresholds for verdicts; `evaluator` and `segmenter`: the names of the models
    that the worker has; `warnings`: sentences for the operator about those that it could not get.
    """

    name: str
    fingerprint: str
    covariance_fingerprint: str
    family: str
    info: dict[str, Any] = field(default_factory=dict)


_DESCRIBED = [column.name for column in fields(RegisteredBaseModel)]


def register_base_model(service: Service, model: RegisteredBaseModel) -> None:
    """Record that a worker has loaded `model`, which makes it the current base model.

    Several workers may register the same base model at once.
    """

    def act(connection: Connection, now: datetime) -> None:
        with Session(connection) as session:
            session.merge(BaseModelRow(**vars(model), seen_at=now))
            session.flush()

    service.database.run(act)


def update_base_model(service: Service, model: RegisteredBaseModel) -> None:
    """Replace what is known of a registered base model, without making it the current one."""
    with service.database.write() as session:
        session.execute(
            update(BaseModelRow)
            .where(
                BaseModelRow.fingerprint == model.fingerprint,
                BaseModelRow.covariance_fingerprint == model.covariance_fingerprint,
            )
            .values(info=model.info)
        )


def current_base_model(service: Service) -> RegisteredBaseModel | None:
    """Return the base model registered last, or None until a worker has loaded one."""
    with service.database.read() as session:
        row = session.execute(CURRENT).mappings().first()
    if row is None:
        return None
    return RegisteredBaseModel(**{name: row[name] for name in _DESCRIBED})


def warnings(service: Service) -> list[str]:
    """Return what a worker could not load besides the base model, as sentences for the operator."""
    model = current_base_model(service)
    return list(model.info.get("warnings", ())) if model is not None else []


class BaseModelInfo(View):
    """The base model that the workers serve, with its own defaults and every bound."""

    name: str
    family: str
    fingerprint: str
    covariance_fingerprint: str
    resolution: Annotated[dict[str, int] | None, Field(description="Width and height in pixels.")]
    max_pixels: Annotated[
        dict[str, int] | None,
        Field(
            description="`generate`: the most of width times height. `train`: the most of "
            "train_batch_size times resolution squared."
        ),
    ]
    backend: Annotated[
        str | None, Field(description="What computes the U-Net of an image, and its precision.")
    ]
    evaluator: Annotated[
        str | None, Field(description="The CLIP model that measures concepts; null: none.")
    ]
    segmenter: Annotated[
        str | None,
        Field(description="The model that finds the object if a picture has no mask; null: none."),
    ]
    known_superclasses: Annotated[
        list[str] | None,
        Field(
            description="The kinds of things that the base model was trained to draw; null: it "
            "does not say. Any other `superclass` is allowed, with a warning."
        ),
    ]
    defaults: Annotated[
        dict[str, dict[str, Any]],
        Field(description="The current default of every option of `train` and `generate`."),
    ]
    bounds: Annotated[
        dict[str, dict[str, Any]], Field(description="The same options, each as JSON schema.")
    ]


def describe(service: Service) -> BaseModelInfo:
    """Return what a client must know about the served base model to offer its options."""
    model = current_base_model(service)
    if model is None:
        raise Unavailable(
            "no-base-model",
            "No worker has loaded the base model yet. Wait until /readyz answers 200.",
            retry_after_seconds=_RETRY_SECONDS,
        )
    side = resolution(model)
    sides = max_sides(side) if side else {}
    own = BaseModelDefaults(
        train=defaults(model, of="train"), generate=defaults(model, of="generate")
    )
    in_force = {"train": asdict(own.train_config()), "generate": asdict(own.generate_config())}
    options: dict[str, type[Inbound]] = {"train": TrainingOptions, "generate": GenerationOptions}
    return BaseModelInfo(
        name=model.name,
        family=model.family,
        fingerprint=model.fingerprint,
        covariance_fingerprint=model.covariance_fingerprint,
        # Every supported family was trained on squares; a worker reports their side.
        resolution={"width": side, "height": side} if side else None,
        max_pixels=max_pixels(side) if side else None,
        backend=model.info.get("backend"),
        evaluator=model.info.get("evaluator"),
        segmenter=model.info.get("segmenter"),
        known_superclasses=model.info.get("known_superclasses") or None,
        defaults=in_force,
        bounds={
            kind: _bounds(options[kind], in_force[kind], largest=sides.get(kind, {}))
            for kind in options
        },
    )


def _bounds(
    options: type[Inbound], in_force: Mapping[str, Any], *, largest: Mapping[str, int]
) -> dict[str, Any]:
    properties: dict[str, Any] = options.model_json_schema()["properties"]
    for name, schema in properties.items():
        schema["default"] = in_force[name]
        for bounded in schema.get("anyOf", [schema]):
            if name in largest and "maximum" in bounded:
                bounded["maximum"] = largest[name]
    return properties


@dataclass(frozen=True)
class Served:
    """The served base model, which concepts must match and whose calibration decides verdicts."""

    name: str
    fingerprint: str
    covariance_fingerprint: str
    calibration: Calibration | None


def served(session: Session) -> Served | None:
    """Return the served base model, queried once per session; None until a worker registers one."""
    if _KEPT not in session.info:
        row = session.execute(_SERVED).first()
        session.info[_KEPT] = (
            None if row is None else Served(row[0], row[1], row[2], _calibration(row[3]))
        )
    kept: Served | None = session.info[_KEPT]
    return kept


def identity(model: RegisteredBaseModel) -> BaseModelIdentity:
    """Return the facts that bind concepts to this base model."""
    return BaseModelIdentity(
        name=model.name,
        fingerprint=model.fingerprint,
        covariance_fingerprint=model.covariance_fingerprint,
        shared_parts=SharedParts.from_json(model.info.get("shared_parts")),
    )


def calibration(model: RegisteredBaseModel | None) -> Calibration | None:
    """Return the calibration of the base model's verdicts, if a worker reported it."""
    return _calibration(model.info.get("calibration")) if model is not None else None


def _calibration(told: Any) -> Calibration | None:
    try:
        return Calibration.from_json(told) if told else None
    except ValueError:  # written by a worker of another release, so its meaning is unknown
        return None


def defaults(model: RegisteredBaseModel | None, *, of: str) -> dict[str, Any]:
    """Return the base model's overrides of the method's defaults for `train` or `generate`."""
    return dict(model.info.get("defaults", {}).get(of, {})) if model is not None else {}


def resolution(model: RegisteredBaseModel | None) -> int | None:
    """Return the side, in pixels, of the base model's own training pictures; None if unknown."""
    side = model.info.get("resolution") if model is not None else None
    return side if isinstance(side, int) else None

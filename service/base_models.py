"""The base model that workers serve, written by them and read by the API (which loads none)."""

from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from perfusion_core.evaluation.calibration import Calibration
from service.database.tables import BaseModelRow
from service.wiring import Service

# The base model registered last; for statements that need more at once, too.
CURRENT = select(*BaseModelRow.__table__.c).order_by(BaseModelRow.seen_at.desc()).limit(1)
_SERVED = CURRENT.with_only_columns(
    BaseModelRow.name,
    BaseModelRow.fingerprint,
    BaseModelRow.covariance_fingerprint,
    BaseModelRow.info["calibration"],
)
_KEPT = "service.base_models.served"


@dataclass(frozen=True, kw_only=True)
class RegisteredBaseModel:
    """A base model that a worker has loaded, as that worker describes it.

    `info` is JSON-ready. The service reads `info["defaults"] = {"train": {...}, "generate":
    {...}}` (the model's overrides of the method's defaults), `info["resolution"]`, its side in
    pixels, and `info["calibration"]`, which verdicts are made by, and leaves the rest to clients.
    """

    name: str
    fingerprint: str
    covariance_fingerprint: str
    family: str
    info: dict[str, Any] = field(default_factory=dict)


_DESCRIBED = [column.name for column in fields(RegisteredBaseModel)]


def register_base_model(service: Service, model: RegisteredBaseModel) -> None:
    """Record that a worker has loaded `model`; it is the current one from now on.

    Several workers may load the same one at once.
    """

    def act(connection: Connection, now: datetime) -> None:
        with Session(connection) as session:
            session.merge(BaseModelRow(**vars(model), seen_at=now))
            session.flush()

    service.database.run(act)


def current_base_model(service: Service) -> RegisteredBaseModel | None:
    """Return the base model registered last; None until a worker has loaded one."""
    with service.database.read() as session:
        row = session.execute(CURRENT).mappings().first()
    if row is None:
        return None
    return RegisteredBaseModel(**{name: row[name] for name in _DESCRIBED})


@dataclass(frozen=True)
class Served:
    """The base model that is served: what concepts must have to be used here, and judge by."""

    name: str
    fingerprint: str
    covariance_fingerprint: str
    calibration: Calibration | None


def served(session: Session) -> Served | None:
    """Return what is served, read once a session; None before a worker has told of it."""
    if _KEPT not in session.info:
        row = session.execute(_SERVED).first()
        session.info[_KEPT] = (
            None if row is None else Served(row[0], row[1], row[2], _calibration(row[3]))
        )
    kept: Served | None = session.info[_KEPT]
    return kept


def calibration(model: RegisteredBaseModel | None) -> Calibration | None:
    """Return what verdicts on the base model are made by, if a worker told it."""
    return _calibration(model.info.get("calibration")) if model is not None else None


def _calibration(told: Any) -> Calibration | None:
    try:
        return Calibration.from_json(told) if told else None
    except ValueError:  # of a worker of another release: what it means is not known here
        return None


def defaults(model: RegisteredBaseModel | None, *, of: str) -> dict[str, Any]:
    """Return the base model's overrides of the method's defaults, of `train` or `generate`."""
    return dict(model.info.get("defaults", {}).get(of, {})) if model is not None else {}


def resolution(model: RegisteredBaseModel | None) -> int | None:
    """Return the side of the pictures that the base model was trained on, if a worker told it."""
    side = model.info.get("resolution") if model is not None else None
    return side if isinstance(side, int) else None

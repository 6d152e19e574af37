"""Create a concept with any of its options, and count what is stored."""

from collections.abc import Sequence

from sqlalchemy import func, select

from service.concepts import use_cases as concepts
from service.idempotency import Answer, Idempotency
from service.pictures.crops import Crop
from service.pictures.uploads import UploadedPicture
from service.webhooks.requests import Webhook
from service.wiring import Service
from tests.unit.service.staging import OWNER, uploaded


def create(
    service: Service,
    name: str = "teddy",
    *,
    superclass: str = "bear",
    key: str | None = None,
    pictures: list[UploadedPicture] | None = None,
    training: dict[str, object] | None = None,
    crops: Sequence[Crop | None] = (),
    webhook: Webhook | None = None,
) -> Answer:
    return concepts.create(
        service,
        OWNER,
        name=name,
        superclass=superclass,
        pictures=uploaded() if pictures is None else pictures,
        training=training or {},
        crops=crops,
        webhook=webhook,
        idempotency=Idempotency(key) if key else None,
    )


def count(service: Service, table: type) -> int:
    with service.database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0

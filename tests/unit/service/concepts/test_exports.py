"""A LoRA is asked for in the row, kept for one file of the concept, and goes with the concept."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from service import deployment
from service.concepts import exports, imports
from service.concepts import use_cases as concepts
from service.concepts.exports import FileFormat, RequestedExport
from service.database.tables import ConceptRow
from service.errors import Conflict
from service.garbage import collection
from service.wiring import Service
from tests.unit.service.staging import (
    OWNER,
    Clock,
    blob_keys,
    core_concept,
    ready,
    register_base_model,
)


@pytest.fixture
def service(make_service: Callable[..., Service], clock: Clock) -> Service:
    clock.now = datetime.now(UTC) + timedelta(minutes=5)
    service = make_service()
    deployment.check(service)
    register_base_model(service)
    return service


def ask(service: Service, name: str, file_format: FileFormat = "lora") -> bytes:
    return exports.read(service, OWNER, ref=name, file_format=file_format).data


def waiting(service: Service, base_model: str = "base-1") -> list[RequestedExport]:
    return exports.requested(service, base_model=base_model, covariance="cov-1", but=frozenset())


def made(service: Service, name: str, data: bytes = b"lora") -> None:
    """Ask for a concept's LoRA, and make it as a worker would."""
    with pytest.raises(exports.NotMadeYet):
        ask(service, name)
    (export,) = waiting(service)
    exports.store(service, export, data)


def test_a_lora_is_asked_for_once_made_once_and_then_kept(service: Service) -> None:
    imports.import_file(service, OWNER, data=core_concept("rex").to_bytes())
    ready(service, "other")
    assert waiting(service) == []
    for _ in range(2):
        with pytest.raises(exports.NotMadeYet):
            ask(service, "rex", "zip")
    assert waiting(service, "another") == []
    (export,) = waiting(service)
    assert export.name == "rex"
    exports.store(service, export, b"lora")
    assert waiting(service) == []
    assert ask(service, "rex") == b"lora"


def test_no_other_file_of_a_concept_gets_its_lora(service: Service) -> None:
    imports.import_file(service, OWNER, data=core_concept("rex").to_bytes())
    made(service, "rex")
    with service.database.write() as session:
        session.query(ConceptRow).update({"sha256": "f" * 64})
    with pytest.raises(exports.NotMadeYet):
        ask(service, "rex")


def test_a_lora_that_is_made_is_served_whatever_base_model_is_served_then(
    service: Service, clock: Clock
) -> None:
    for name in ("rex", "late"):
        imports.import_file(service, OWNER, data=core_concept(name).to_bytes())
    made(service, "rex")
    clock.tick(1)
    register_base_model(service, fingerprint="base-2")
    assert ask(service, "rex") == b"lora"
    with pytest.raises(Conflict, match="base model") as refused:
        ask(service, "late")
    assert refused.value.slug == "base-model-mismatch"
    assert waiting(service) == []
    assert len(ask(service, "late", "embedding")) > 0  # needs no base model


def test_a_lora_that_cannot_be_made_is_a_clear_conflict(service: Service) -> None:
    imports.import_file(service, OWNER, data=core_concept("rex").to_bytes())
    made(service, "rex", b"")
    with pytest.raises(Conflict, match="Import it again"):
        ask(service, "rex")


def test_the_collector_keeps_a_lora_until_its_concept_is_deleted_or_renamed(
    service: Service, clock: Clock
) -> None:
    for name in ("rex", "teddy"):
        imports.import_file(service, OWNER, data=core_concept(name).to_bytes())
        made(service, name)
    kept = blob_keys(service)
    assert sum(key.startswith("exports/") for key in kept) == 2
    clock.tick(7200)
    assert collection.collect(service) == 0
    assert blob_keys(service) == kept
    with service.database.write() as session:
        session.query(ConceptRow).filter_by(name="rex").update({"name": "max"})
    assert collection.collect(service) == 1
    concepts.delete(service, OWNER, ref="teddy")
    assert [key for key in blob_keys(service) if key.startswith("exports/")] == []

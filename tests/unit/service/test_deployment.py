"""If database and store do not belong together, no process starts and no file is removed."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select

from service import deployment
from service.blobs.keys import DEPLOYMENT_KEY
from service.blobs.local import LocalBlobs
from service.concepts import imports
from service.database.tables import DeploymentRow
from service.deployment import Mismatch
from service.errors import Unavailable
from service.garbage import collection, retention
from service.wiring import Service
from tests.unit.service.staging import (
    OWNER,
    Clock,
    at_once,
    blob_keys,
    core_concept,
    ready,
    register_base_model,
)


@pytest.fixture(autouse=True)
def later(clock: Clock) -> None:
    """Set the service's clock ahead, because blobs carry the machine's time."""
    clock.now = datetime.now(UTC) + timedelta(hours=3)


def of_database(service: Service) -> str | None:
    with service.database.read() as session:
        assert session.scalar(select(func.count()).select_from(DeploymentRow)) in (0, 1)
        return session.scalar(select(DeploymentRow.id))


def of_store(service: Service) -> str:
    return service.blobs.get(DEPLOYMENT_KEY).decode()


def forget_the_ids(service: Service) -> None:
    """Remove the ids, as in a deployment of the previous release."""
    with service.database.write() as session:
        session.execute(delete(DeploymentRow))
    service.blobs.delete(DEPLOYMENT_KEY)


def test_a_new_database_and_an_empty_store_get_one_id_for_good(service: Service) -> None:
    deployment.check(service)
    first = of_store(service)
    assert of_database(service) == first
    deployment.check(service)
    assert of_database(service) == of_store(service) == first


def test_first_starts_at_once_give_one_id(service: Service) -> None:
    at_once([lambda: deployment.check(service)] * 8)
    assert of_database(service) == of_store(service)


def test_a_deployment_of_the_release_before_gets_its_id_by_itself(service: Service) -> None:
    ready(service)
    deployment.check(service)
    forget_the_ids(service)
    deployment.check(service)
    assert of_database(service) == of_store(service)


@pytest.mark.parametrize("lost", ["database", "store"])
def test_the_side_that_lost_its_id_gets_it_back_from_the_other(service: Service, lost: str) -> None:
    """The cause is a backup from before there were ids, or a first start that was killed."""
    ready(service)
    deployment.check(service)
    first = of_store(service)
    if lost == "store":
        service.blobs.delete(DEPLOYMENT_KEY)
    else:
        with service.database.write() as session:
            session.execute(delete(DeploymentRow))
    deployment.check(service)
    assert of_database(service) == of_store(service) == first


def test_a_new_database_does_not_join_the_deployment_of_a_store_that_holds_nothing_yet(
    make_service: Callable[..., Service], service: Service
) -> None:
    deployment.check(service)
    other = replace(make_service(), blobs=service.blobs)
    for _ in range(2):
        with pytest.raises(Mismatch, match="two deployments"):
            deployment.check(other)
    deployment.check(service)


def test_an_empty_database_above_a_full_store_removes_nothing(
    make_service: Callable[..., Service], service: Service
) -> None:
    """The cause is a typo in the database's URL, or a lost SQLite file."""
    imported(service)
    before = blob_keys(service)
    other = replace(make_service(), blobs=service.blobs)
    with pytest.raises(Mismatch, match="names none of them"):
        collection.collect(other)
    deployment.check(service)
    with pytest.raises(Mismatch, match=r"names none of them.*PERFUSION_DATABASE_URL.*adopt"):
        collection.collect(other)
    assert blob_keys(service) == before
    assert of_database(other) is None


def test_the_database_of_another_deployment_removes_nothing(
    make_service: Callable[..., Service], service: Service
) -> None:
    other = make_service(keep_images_days=1)
    for deployed in (service, other):
        imported(deployed)
        deployment.check(deployed)
    before = blob_keys(service)
    swapped = replace(other, blobs=service.blobs)
    for act in (deployment.check, collection.collect, retention.release):
        with pytest.raises(Mismatch, match="two deployments") as caught:
            act(swapped)
    assert of_store(service) in str(caught.value)
    assert str(of_database(other)) in str(caught.value)
    assert blob_keys(service) == before


def test_a_store_without_the_files_that_the_database_names_is_not_taken_for_its_own(
    service: Service, tmp_path: Path
) -> None:
    imported(service)
    empty = replace(service, blobs=LocalBlobs(tmp_path / "empty"))
    with pytest.raises(Mismatch, match="holds none of those"):
        deployment.check(empty)
    assert not list(empty.blobs.list())
    deployment.check(service)


def test_a_bucket_that_is_swapped_while_it_runs_is_noticed_before_each_collection(
    make_service: Callable[..., Service], service: Service
) -> None:
    other = make_service()
    for deployed in (service, other):
        imported(deployed)
        assert collection.collect(deployed) == 0
    service.blobs.put(DEPLOYMENT_KEY, other.blobs.get(DEPLOYMENT_KEY))
    service.blobs.put("jobs/job_gone/1/0.png", b"orphan")
    with pytest.raises(Mismatch):
        collection.collect(service)
    assert "jobs/job_gone/1/0.png" in blob_keys(service)


def test_an_operator_who_means_it_adopts_a_store(
    make_service: Callable[..., Service], service: Service
) -> None:
    for number in range(21):
        imported(service, f"concept-{number}")
    deployment.check(service)
    before = blob_keys(service)
    other = replace(make_service(), blobs=service.blobs)
    adopted = deployment.adopt(other)
    deployment.check(other)
    assert of_database(other) == of_store(other) == adopted
    assert collection.collect(other) == 0  # too many for one collection
    assert blob_keys(service) == before
    with pytest.raises(Mismatch):
        deployment.check(service)  # the database that the store was taken from is refused


def test_a_store_that_is_away_at_the_start_is_asked_later(service: Service, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    away = replace(service, blobs=LocalBlobs(tmp_path / "file" / "blobs"))
    deployment.check_at_start(away)
    with pytest.raises(Unavailable):
        collection.collect(away)


def imported(service: Service, name: str = "teddy") -> None:
    register_base_model(service)
    imports.import_file(service, OWNER, data=core_concept(name).to_bytes())

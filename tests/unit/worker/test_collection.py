"""Signs of life and repairs go on during a collection, however long it takes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, enumerate

import pytest

from service import workers
from service.blobs.local import LocalBlobs
from service.blobs.store import BlobInfo
from service.statuses import JobStatus
from service.wiring import Service
from tests.unit.service.staging import try_to_claim
from tests.unit.worker.staging import accept_generation, look_at, wait_until
from worker import collection
from worker.reconciler import Reconciler


class HangingBlobs(LocalBlobs):
    """A folder whose listing hangs until `released` is set."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked, self.released, self.ended = Event(), Event(), Event()

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        self.asked.set()
        self.released.wait(60)
        self.ended.set()
        yield from super().list(prefix)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "_FIRST_AFTER_SECONDS", 0.0)


@pytest.fixture
def blobs(tmp_path: Path) -> HangingBlobs:
    return HangingBlobs(tmp_path / "hanging")


def test_a_worker_lives_and_jobs_are_repaired_while_a_collection_runs(
    make_service: Callable[..., Service], blobs: HangingBlobs
) -> None:
    settings = {"lease_seconds": 1, "heartbeat_seconds": 0.1, "reconcile_seconds": 0.1}
    service = replace(make_service(**settings), blobs=blobs)

    def report() -> bool:
        workers.seen(service, "w", queues=["generate"], device="cpu")
        return True

    job_id = accept_generation(service)
    repairs = Reconciler(service, report=report)
    repairs.start()
    try:
        assert blobs.asked.wait(10)
        workers.gone(service, "w")
        assert try_to_claim(service, job_id, worker_id="one that dies")
        wait_until(lambda: bool(workers.live(service)))
        wait_until(lambda: look_at(service, job_id).status is JobStatus.QUEUED)
        assert not blobs.ended.is_set()
    finally:
        blobs.released.set()
        repairs.stop()


def test_stopping_ends_a_collection_in_the_middle(service: Service, blobs: HangingBlobs) -> None:
    blobs.put("jobs/job_1/1/0.png", b"x")
    repairs = Reconciler(replace(service, blobs=blobs))
    repairs.start()
    assert blobs.asked.wait(10)
    repairs._collection._stopped.set()
    blobs.released.set()
    repairs.stop()
    assert not [thread for thread in enumerate() if thread.name in ("collection", "reconciler")]


def test_a_collection_that_fails_is_repeated(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "_EVERY_SECONDS", 0.01)
    passes = []
    done = Event()

    def collect(*_: object, **__: object) -> int:
        passes.append(len(passes))
        if len(passes) == 1:
            raise ValueError("a fault of ours")
        done.set()
        return 0

    monkeypatch.setattr(collection.collection, "collect", collect)
    clearing = collection.Collection(service)
    clearing.start()
    assert done.wait(10)
    clearing.stop()

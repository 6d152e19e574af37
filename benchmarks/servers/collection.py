"""Measure whether a collection over many finished jobs disturbs the rest of its process.

    python -m benchmarks.servers.collection [--jobs 20000] [--database sqlite|postgres] [--rounds 3]

One process runs an API, the reconciler with a worker's sign of life, and the collection, as in the
embedded default. Each tenth job is a training with picture, concept file and preview; the others
have made an image. Some files belong to no row. The lease is 3 s instead of the usual 30 s, so
`/readyz`, which is asked five times a second, counts a worker as lost after 3 s of silence.
"""

import argparse
import os
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from sqlalchemy import insert
from starlette.testclient import TestClient

import migrations
from api.app import create_app
from service import deployment, log, wiring, workers
from service.blobs import keys
from service.database.tables import ConceptRow, ImageRow, JobRow, PictureRow
from service.garbage import collection as collector
from service.settings.environment import Settings
from service.statuses import ConceptStatus, JobStatus, Queue
from service.wiring import Service
from tests.integration.stack import servers
from worker import collection
from worker.reconciler import Reconciler

_LEASE_SECONDS = 3.0
_HEARTBEAT_SECONDS = 0.5
_POLL_SECONDS = 0.2
_AGE_SECONDS = 7200
_ORPHANS = 100


def main() -> None:
    """Print one line for each round."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, _database(arguments.database, name) as url:
        settings = Settings(
            database_url=url,
            blobs_url=f"file:{name}/blobs",
            lease_seconds=_LEASE_SECONDS,
            heartbeat_seconds=_HEARTBEAT_SECONDS,
            reconcile_seconds=0.5,
            requests_per_minute=1_000_000,
            log_level="error",
        )
        log.configure(settings)
        # In another process, so that its memory does not count as the collection's.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
            stored = other.submit(
                fill, settings, Path(name) / "blobs", jobs=arguments.jobs
            ).result()
        service = wiring.build(settings)
        print(f"{arguments.jobs} jobs, {stored} files, {arguments.database}", flush=True)
        for _ in range(arguments.rounds):
            _leave_orphans(Path(name) / "blobs")
            print(measure(service), flush=True)
        service.close()


def measure(service: Service) -> str:
    """Run one pass of the collection together with all else; return the figures as a sentence."""
    done = threading.Event()
    removed: list[int] = []
    seconds: list[float] = []

    def collect(*arguments: Any, **options: Any) -> int:
        began = time.monotonic()
        removed.append(plainly(*arguments, **options))
        seconds.append(time.monotonic() - began)
        done.set()
        return removed[-1]

    def report() -> bool:
        workers.seen(service, "w", queues=["generate", "train"], device="cpu")
        return True

    plainly, collector.collect = collector.collect, collect
    collection._FIRST_AFTER_SECONDS = 1.0
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    repairs = Reconciler(service, report=report)
    answers: list[tuple[int, float]] = []
    ages: list[float] = []
    with TestClient(create_app(service, embedded=False), base_url="http://127.0.0.1") as client:
        report()
        repairs.start()
        while not done.is_set():
            began = time.monotonic()
            status = client.get("/readyz").status_code
            answers.append((status, time.monotonic() - began))
            with service.database.read() as session:
                now = service.database.now(session)
            ages += [(now - worker.seen_at).total_seconds() for worker in workers.live(service)]
            time.sleep(_POLL_SECONDS)
        repairs.stop()
    collector.collect = plainly
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    times_ms = sorted(1000 * taken for _, taken in answers)
    lost = sum(status != 200 for status, _ in answers)
    return (
        f"pass {seconds[0]:.1f} s, {removed[0]} removed; /readyz asked {len(answers)} times, "
        f"not ready {lost} times, p50 {statistics.median(times_ms):.0f} ms, longest "
        f"{times_ms[-1]:.0f} ms; oldest sign of life {max(ages):.2f} s of {_LEASE_SECONDS:g}; "
        f"peak memory +{grown_mb:.0f} MB"
    )


def fill(settings: Settings, folder: Path, *, jobs: int) -> int:
    """Write finished jobs directly into tables and folders; return the number of their files."""
    migrations.upgrade(settings.database_url)
    service = wiring.build(settings)
    deployment.check(service)
    with service.database.read() as session:
        now = service.database.now(session) - timedelta(seconds=_AGE_SECONDS)
    rows: dict[Any, list[dict[str, Any]]] = {
        ConceptRow: [],
        PictureRow: [],
        JobRow: [],
        ImageRow: [],
    }
    stored = 0
    for number in range(jobs):
        job_id, is_training = f"job_{number:032x}", number % 10 == 0
        concept_id = f"concept_{number:032x}" if is_training else None
        rows[JobRow].append(_job_row(job_id, concept_id=concept_id, now=now))
        names = [f"{keys.attempt_prefix(job_id, 1)}0.png"]
        if concept_id is None:
            rows[ImageRow].append(_image_row(number, job_id, blob_key=names[0], now=now))
        else:
            picture = keys.picture_key(concept_id, 0)
            names = [f"{keys.attempt_prefix(job_id, 1)}concept.safetensors", picture]
            rows[ConceptRow].append(
                _concept_row(concept_id, job_id, blob_key=names[0], number=number, now=now)
            )
            rows[PictureRow].append(_picture_row(concept_id, blob_key=picture))
        for name in names:
            _write_old(folder / name)
        stored += len(names)
    with service.database.write() as session:
        for table, values in rows.items():
            for start in range(0, len(values), 1000):
                session.execute(insert(table), values[start : start + 1000])
    service.close()
    return stored


def _job_row(job_id: str, *, concept_id: str | None, now: Any) -> dict[str, Any]:
    return {
        "id": job_id,
        "owner_id": "local",
        "queue": Queue.TRAIN if concept_id else Queue.GENERATE,
        "status": JobStatus.SUCCEEDED,
        "payload": {},
        "step": 1,
        "total_steps": 1,
        "attempt": 1,
        "attempts_spent": 1,
        "max_attempts": 3,
        "dispatch_at": now,
        "rings": 0,
        "concept_id": concept_id,
        "version": 1,
        "created_at": now,
        "finished_at": now,
    }


def _image_row(number: int, job_id: str, *, blob_key: str, now: Any) -> dict[str, Any]:
    return {
        "id": f"image_{number:032x}",
        "job_id": job_id,
        "owner_id": "local",
        "position": 0,
        "seed": 1,
        "width": 8,
        "height": 8,
        "blob_key": blob_key,
        "sha256": "0" * 64,
        "created_at": now,
    }


def _concept_row(
    concept_id: str, job_id: str, *, blob_key: str, number: int, now: Any
) -> dict[str, Any]:
    return {
        "id": concept_id,
        "owner_id": "local",
        "name": f"c{number}",
        "superclass": "bear",
        "status": ConceptStatus.READY,
        "blob_key": blob_key,
        "training": {},
        "created_at": now,
        "job_id": job_id,
    }


def _picture_row(concept_id: str, *, blob_key: str) -> dict[str, Any]:
    return {
        "concept_id": concept_id,
        "position": 0,
        "blob_key": blob_key,
        "width": 8,
        "height": 8,
        "has_alpha": False,
        "sha256": "0" * 64,
    }


def _leave_orphans(folder: Path) -> None:
    for number in range(_ORPHANS):
        _write_old(folder / f"jobs/job_gone_{number}/1/0.png")


def _write_old(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x")
    then = time.time() - _AGE_SECONDS
    os.utime(file, (then, then))


@contextmanager
def _database(kind: str, folder: str) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{folder}/perfusion.db"
        return
    with servers.postgres() as server:
        yield server.new_database()


if __name__ == "__main__":
    main()

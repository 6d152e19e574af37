"""How fast a list and a search of images are, where one owner has 100,000 images.

    python -m benchmarks.servers.images [--images 100000] [--database sqlite|postgres] [--rounds 7]

Each image has a job of its own, which is the slowest case. One image, the oldest, has the rare
concept. It prints the medians of each page of 20 images, as the service makes it from the database:
the time, and the processor time of this process, which on SQLite is all of it. A first page without
conditions is the floor. `old` empties the two columns that searches compare,
as if the previous release had made all images.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert, update

import migrations
from service import wiring
from service.database.tables import ConceptRow, ImageRow, JobRow
from service.images import use_cases as images
from service.settings.environment import Settings
from service.statuses import ConceptStatus, JobStatus, Queue
from service.wiring import Service
from tests.integration.stack import servers

_OWNER = "owner"
_AT_ONCE = 5000
_CONCEPTS = 30
_WORDS = (
    "a photo of on the beach at night in snow with trees mountain castle painted style oil "
    "watercolour boat river city"
).split()


def main() -> None:
    """Print one line for each kind of page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with _database(arguments.database) as url:
        migrations.upgrade(url)
        service = wiring.build(Settings(database_url=url, blobs_url="sql:"))
        fill(service, arguments.images)
        print(f"{arguments.images} images of one owner, {arguments.database}", flush=True)
        measure(service, rounds=arguments.rounds)
        with service.database.write() as session:
            # Bounded, because a single statement over all rows may take longer than is allowed.
            session.execute(
                update(ImageRow)
                .where(ImageRow.created_at < _time(arguments.images // 100))
                .values(searched_prompt=None, concept_refs=None)
            )
        print("old: 1 % of the images made by the previous release", flush=True)
        measure(service, rounds=arguments.rounds)
        service.close()


def measure(service: Service, *, rounds: int) -> None:
    """Print the median milliseconds of each page."""
    first = images.list_page(service, _OWNER, limit=20)
    deep = first.next_cursor
    for _ in range(20):
        deep = images.list_page(service, _OWNER, limit=100, cursor=deep).next_cursor
    pages: dict[str, dict[str, Any]] = {
        "first page": {},
        "page after 2,000 images": {"cursor": deep},
        "?q= that many prompts contain": {"text": "beach"},
        "?q= that no prompt contains": {"text": "dinosaur"},
        "?concept= of many images": {"concept": "name1"},
        "?concept= of the oldest image": {"concept": "name0"},
        "?job_id=": {"job_id": first.items[0].job_id},
    }
    for name, conditions in pages.items():
        seconds, busy = [], []
        for _ in range(rounds):
            began, began_busy = time.perf_counter(), time.process_time()
            page = images.list_page(service, _OWNER, limit=20, **conditions)
            seconds.append(time.perf_counter() - began)
            busy.append(time.process_time() - began_busy)
        medians = [statistics.median(times) * 1000 for times in (seconds, busy)]
        print(
            f"  {name:32} {medians[0]:8.1f} ms, {medians[1]:8.1f} ms busy  "
            f"{len(page.items):3} images",
            flush=True,
        )


def fill(service: Service, count: int) -> None:
    """Add concepts, jobs and images, without any blob."""
    rng = random.Random(1)
    with service.database.write() as session:
        session.execute(insert(ConceptRow), [_concept(k) for k in range(_CONCEPTS)])
    for start in range(0, count, _AT_ONCE):
        jobs, made = [], []
        for number in range(start, min(count, start + _AT_ONCE)):
            k = 0 if number == 0 else 1 + min(_CONCEPTS - 2, int(rng.expovariate(0.3)))
            prompt = f"{' '.join(rng.choices(_WORDS, k=14))} <name{k}>"
            jobs.append(_job(number, prompt=prompt, concept=k))
            made.append(_image(number, prompt=prompt, concept=k))
        with service.database.write() as session:
            session.execute(insert(JobRow), jobs)
            session.execute(insert(ImageRow), made)


def _concept(k: int) -> dict[str, Any]:
    return {
        "id": f"concept_{k:032x}",
        "owner_id": _OWNER,
        "name": f"name{k}",
        "superclass": "toy",
        "status": ConceptStatus.READY,
        "training": {},
        "created_at": _time(0),
    }


def _job(number: int, *, prompt: str, concept: int) -> dict[str, Any]:
    job_id = _job_id(number)
    payload = {
        "version": 1,
        "prompt": prompt,
        "concepts": [
            {
                "id": f"concept_{concept:032x}",
                "name": f"name{concept}",
                "sha256": "a" * 64,
                "blob_key": f"jobs/{job_id}/1/concept.safetensors",
                "beta": 0.7,
                "tau": 0.15,
            }
        ],
        "config": {"seed": 1, "num_images": 1, "num_inference_steps": 50, "guidance_scale": 7.5},
        "attention_maps": False,
    }
    moment = _time(number)
    return {
        "id": job_id,
        "owner_id": _OWNER,
        "queue": Queue.GENERATE,
        "status": JobStatus.SUCCEEDED,
        "payload": payload,
        "step": 50,
        "total_steps": 50,
        "attempt": 1,
        "attempts_spent": 1,
        "max_attempts": 3,
        "rings": 0,
        "version": 3,
        **dict.fromkeys(("dispatch_at", "created_at", "finished_at"), moment),
    }


def _image(number: int, *, prompt: str, concept: int) -> dict[str, Any]:
    # Random, as the ids of images are.
    scattered = (number * 2654435761) % 2**32
    return {
        "id": f"image_{scattered:032x}",
        "job_id": _job_id(number),
        "owner_id": _OWNER,
        "position": 0,
        "seed": 1,
        "width": 512,
        "height": 512,
        "size_bytes": 400_000,
        "blob_key": f"jobs/{_job_id(number)}/1/0.png",
        "thumbnail_key": f"jobs/{_job_id(number)}/1/0.webp",
        "sha256": "b" * 64,
        "searched_prompt": prompt.casefold(),
        "concept_refs": [f"concept_{concept:032x}", f"name{concept}"],
        "created_at": _time(number),
    }


def _job_id(number: int) -> str:
    return f"job_{(number * 2246822519) % 2**32:032x}"


def _time(number: int) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)


@contextmanager
def _database(kind: str) -> Iterator[str]:
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/perfusion.db"
    else:
        with servers.postgres() as server:
            yield server.new_database()


if __name__ == "__main__":
    main()

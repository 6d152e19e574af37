"""Measure how long the sender of webhooks looks for due messages.

    python -m benchmarks.servers.webhooks [--messages 20000] [--database sqlite|postgres]

All messages wait, of five owners for seven receivers; first all are due, then none.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy import insert, update

import migrations
from service import wiring
from service.database.tables import JobRow, WebhookRow
from service.jobs import transitions
from service.settings.environment import Settings
from service.statuses import JobKind, JobStatus, WebhookState
from service.webhooks import outbox
from service.wiring import Service
from tests.integration.stack import servers

_ROUNDS = 9
_ROWS_AT_ONCE = 500
_OWNERS = 5
_RECEIVERS = 7


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    arguments = parser.parse_args()
    with _service(arguments.database) as service:
        _fill(service, arguments.messages)
        print(f"all of {arguments.messages} due: {_look(service):.0f} ms")
        with service.database.write() as session:
            later = service.database.now(session) + timedelta(hours=1)
            session.execute(update(WebhookRow).values(next_at=later))
        print(f"none of {arguments.messages} due: {_look(service):.0f} ms")


@contextmanager
def _service(database: str) -> Iterator[Service]:
    with tempfile.TemporaryDirectory() as name:
        if database == "postgres":
            with servers.postgres() as server:
                yield from _built(server.new_database(), name)
        else:
            yield from _built(f"sqlite:///{name}/perfusion.db", name)


def _built(url: str, folder: str) -> Iterator[Service]:
    migrations.upgrade(url)
    service = wiring.build(Settings(database_url=url, blobs_url=f"file:{folder}/blobs"))
    try:
        yield service
    finally:
        service.close()


def _fill(service: Service, count: int) -> None:
    for first in range(0, count, _ROWS_AT_ONCE):
        numbers = range(first, min(first + _ROWS_AT_ONCE, count))
        with service.database.write() as session:
            now = service.database.now(session)
            session.execute(insert(JobRow), [_job(service, n, now) for n in numbers])
            session.execute(insert(WebhookRow), [_message(n, now) for n in numbers])


def _job(service: Service, n: int, now: datetime) -> dict[str, object]:
    job = transitions.new_job(
        service,
        f"owner_{n % _OWNERS}",
        job_id=f"job_{n}",
        kind=JobKind.GENERATE,
        payload={},
        total_steps=1,
        concept_id=None,
        now=now,
    )
    ended = {"status": JobStatus.SUCCEEDED, "finished_at": now, "turn": 0}
    values = {column.key: getattr(job, column.key) for column in JobRow.__table__.c}
    return values | ended


def _message(n: int, now: datetime) -> dict[str, object]:
    return {
        "id": f"msg_{n}",
        "job_id": f"job_{n}",
        "owner_id": f"owner_{n % _OWNERS}",
        "url": "https://example.org/",
        "host": f"{n % _RECEIVERS}.example.org",
        "state": WebhookState.WAITING,
        "attempts": 1,
        "next_at": now,
    }


def _look(service: Service) -> float:
    """Return the median of the looks, in milliseconds."""
    taken = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        outbox.candidates(service, most_per_owner=4, most_per_host=2, full_owners=(), full_hosts=())
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken)


if __name__ == "__main__":
    main()

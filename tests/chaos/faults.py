"""The faults. Each is a function of the stage, and a seed decides their order."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.integration.stack.deployment import START_SECONDS, Api
from tests.integration.stack.lost_answers import LostAnswers
from tests.integration.stack.processes import Process
from tests.integration.stack.servers import Servers


@dataclass(frozen=True)
class Stage:
    """Everything that a fault can break."""

    servers: Servers
    proxy: LostAnswers
    apis: list[Api]
    workers: list[Process]
    disk_is_full: Path
    database_url: str
    lease_seconds: float
    choose: random.Random

    def running_on(self, worker: Process) -> list[tuple[str, int]]:
        """Return the jobs that this worker runs, each with its attempt."""
        with self.servers.postgres.connect(self.database_url) as connection:
            rows = connection.execute(
                "SELECT id, attempt FROM jobs WHERE status = 'running' AND worker_id LIKE %s",
                (f"%-{worker.pid}-%",),
            )
            return [(str(row[0]), int(row[1])) for row in rows]

    def taken_over(self, jobs: list[tuple[str, int]]) -> bool:
        """Return whether one of the jobs already runs in a later attempt."""
        with self.servers.postgres.connect(self.database_url) as connection:
            rows = connection.execute(
                "SELECT id, attempt FROM jobs WHERE id = ANY(%s) AND status = 'running'",
                ([job_id for job_id, _ in jobs],),
            )
            return any(attempt > dict(jobs)[job_id] for job_id, attempt in rows)


def kill_a_worker(stage: Stage) -> None:
    worker = stage.choose.choice(stage.workers)
    until(lambda: bool(stage.running_on(worker)), seconds=3)
    worker.kill()
    time.sleep(stage.choose.uniform(0, 1))
    worker.start()


def kill_an_api(stage: Stage) -> None:
    api = stage.choose.choice(stage.apis)
    api.process.kill()
    time.sleep(stage.choose.uniform(0, 1))
    api.process.start()


def suspend_an_api(stage: Stage) -> None:
    """Freeze an API for longer than a lease: when it wakes, every lease seems expired."""
    api = stage.choose.choice(stage.apis)
    freeze_for(api.process, seconds=stage.lease_seconds + stage.choose.uniform(0.5, 2))


def lose_answers(stage: Stage) -> None:
    """Lose the answers of some commits."""
    stage.proxy.share = stage.choose.uniform(0.1, 0.5)
    time.sleep(stage.choose.uniform(3, 6))
    stage.proxy.share = 0


def wipe_redis(stage: Stage) -> None:
    stage.servers.redis.process.kill()
    time.sleep(stage.choose.uniform(0, 1))
    stage.servers.redis.start()


def freeze_redis(stage: Stage) -> None:
    freeze_for(stage.servers.redis.process, seconds=stage.choose.uniform(2, 4))


def freeze_s3(stage: Stage) -> None:
    freeze_for(stage.servers.s3.process, seconds=stage.choose.uniform(2, 4))


def restart_postgres(stage: Stage) -> None:
    # An API that starts without its database ends, and the chaos would not start it again.
    for api in stage.apis:
        api.process.wait_until(api.answers, what="it answered", seconds=START_SECONDS)
    stage.servers.postgres.restart_immediately()


def wake_a_zombie(stage: Stage) -> None:
    """Freeze a worker until another one has its jobs, then let it continue."""
    workers = stage.choose.sample(stage.workers, k=len(stage.workers))
    # A worker without a job has nothing to spoil when it wakes.
    until(lambda: any(map(stage.running_on, workers)), seconds=3)
    worker = next(filter(stage.running_on, workers), workers[0])
    jobs = stage.running_on(worker)
    worker.freeze()
    try:
        until(lambda: stage.taken_over(jobs), seconds=stage.lease_seconds + 3)
    finally:
        worker.thaw()


def fill_the_disk(stage: Stage) -> None:
    stage.disk_is_full.touch()
    time.sleep(stage.choose.uniform(1, 3))
    stage.disk_is_full.unlink()


Fault = Callable[[Stage], None]
# Clients repeat idempotency keys and cancel jobs, in orders.py.
FAULTS: tuple[Fault, ...] = (
    kill_a_worker,
    kill_an_api,
    suspend_an_api,
    lose_answers,
    wipe_redis,
    freeze_redis,
    freeze_s3,
    restart_postgres,
    wake_a_zombie,
    fill_the_disk,
)


def freeze_for(process: Process, *, seconds: float) -> None:
    process.freeze()
    try:
        time.sleep(seconds)
    finally:
        process.thaw()


def until(true: Callable[[], bool], *, seconds: float) -> None:
    give_up_at = time.monotonic() + seconds
    while not true() and time.monotonic() < give_up_at:
        time.sleep(0.05)

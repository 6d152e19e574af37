"""The faults of the embedded server, which has its own database, files, queue and worker."""

import random
import resource
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.faults import freeze_for, until
from tests.integration.stack.deployment import START_SECONDS, Api


@dataclass(frozen=True)
class EmbeddedStage:
    """The server's process, and the database that outlives it."""

    api: Api
    database: Path
    lease_seconds: float
    choose: random.Random

    def something_runs(self) -> bool:
        """Return whether a job runs now."""
        with closing(sqlite3.connect(self.database, timeout=1)) as connection:
            rows = connection.execute("SELECT 1 FROM jobs WHERE status = 'running'")
            return rows.fetchone() is not None

    def wait_until_it_serves(self) -> None:
        """Wait for the end of a start, because a fault during a start rightly ends the process."""
        process = self.api.process
        process.wait_until(self.api.answers, what="it answered", seconds=START_SECONDS)


def kill_the_server(stage: EmbeddedStage) -> None:
    stage.wait_until_it_serves()
    until(stage.something_runs, seconds=3)
    stage.api.process.kill()
    time.sleep(stage.choose.uniform(0, 1))
    stage.api.process.start()


def kill_the_server_while_it_starts(stage: EmbeddedStage) -> None:
    stage.wait_until_it_serves()
    stage.api.process.kill()
    stage.api.process.start()
    time.sleep(stage.choose.uniform(0.5, 4))
    stage.api.process.kill()
    stage.api.process.start()


def stop_the_server(stage: EmbeddedStage) -> None:
    """Stop the server by SIGTERM and start it again: running jobs end or go back to the queue."""
    stage.wait_until_it_serves()
    until(stage.something_runs, seconds=3)
    code = stage.api.process.terminate()
    assert code == 0, f"the server ended with {code}:\n{stage.api.process.log[-4000:]}"
    stage.api.process.start()


def suspend_the_server(stage: EmbeddedStage) -> None:
    """Freeze the server for longer than a lease, as a sleeping laptop does."""
    stage.wait_until_it_serves()
    until(stage.something_runs, seconds=3)
    freeze_for(stage.api.process, seconds=stage.lease_seconds + stage.choose.uniform(0.5, 3))


def fill_the_disk(stage: EmbeddedStage) -> None:
    """Let every write to a file fail: of the database, its log and the blobs."""
    stage.wait_until_it_serves()
    pid = stage.api.process.pid
    free = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, free[1]))
    try:
        time.sleep(stage.choose.uniform(1, stage.lease_seconds + 2))
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, free)


def lock_the_database(stage: EmbeddedStage) -> None:
    """Lock the database for longer than a lease or a write waits, as a backup or a shell may."""
    stage.wait_until_it_serves()
    with closing(sqlite3.connect(stage.database, timeout=10, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(stage.choose.uniform(2, 12))
        connection.execute("ROLLBACK")


FAULTS: tuple[Callable[[EmbeddedStage], None], ...] = (
    kill_the_server,
    kill_the_server_while_it_starts,
    stop_the_server,
    suspend_the_server,
    fill_the_disk,
    lock_the_database,
)

"""The scenes of chaos: running processes, and the faults that they will meet."""

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from tests.chaos import disk, embedded_faults, faults, webhooks, worker
from tests.chaos.embedded_faults import EmbeddedStage
from tests.chaos.faults import Stage
from tests.integration.stack import servers
from tests.integration.stack.deployment import START_SECONDS, Api, Deployment
from tests.integration.stack.lost_answers import LostAnswers, lost_answers
from tests.integration.stack.processes import Process

LEASE_SECONDS = 3.0
T = TypeVar("T")


@dataclass(frozen=True)
class Scene:
    """Processes that are ready, and `faults` in the order that the seed has chosen."""

    deployment: Deployment
    apis: list[Api]
    workers: list[Process]
    choose: random.Random
    faults: list[tuple[str, Callable[[], None]]]
    # How long the clients send: as long as the faults take, so that each fault meets jobs.
    seconds: float
    proxy: LostAnswers | None = None

    @property
    def processes(self) -> list[Process]:
        """The product's own processes, in the order in which they end."""
        return [*self.workers, *(api.process for api in self.apis)]


@contextmanager
def on_postgres(seed: int, *, rounds: int, blobs_url: str | None = None) -> Iterator[Scene]:
    """Run two API processes, two workers, PostgreSQL behind a proxy, Redis and S3.

    Each fault occurs in each of the `rounds`.
    """
    with _deployed(seed, mutant=False, blobs_url=blobs_url) as (stage, deployment, proxy):
        chosen = _shuffled(stage.choose, faults.FAULTS * rounds)
        yield _scene(stage, deployment, proxy, chosen=chosen, seconds=2.4 * len(chosen))


@contextmanager
def without_the_lease_token(seed: int) -> Iterator[Scene]:
    """Run the same with workers that do not check their lease, and zombies as the only fault.

    Only the lease token protects against a zombie.
    """
    with _deployed(seed, mutant=True) as (stage, deployment, proxy):
        chosen = [faults.wake_a_zombie] * 4
        yield _scene(
            stage, deployment, proxy, chosen=chosen, seconds=2 * LEASE_SECONDS * len(chosen)
        )


@contextmanager
def with_lost_answers(
    seed: int, *, share: float, rounds: int, blobs_url: str | None = None
) -> Iterator[Scene]:
    """Run the same with one lasting fault: a share of the commits never gets an answer."""
    with _deployed(seed, mutant=False, blobs_url=blobs_url) as (stage, deployment, proxy):
        proxy.share = share
        yield _scene(stage, deployment, proxy, chosen=[], seconds=30 * rounds)


@contextmanager
def on_sqlite(seed: int, *, rounds: int, blobs_url: str | None = None) -> Iterator[Scene]:
    """Run `perfusion serve` with its defaults: SQLite, files, and a worker in its process."""
    with tempfile.TemporaryDirectory() as name:
        deployment = _deployment(Path(name), _stored(blobs_url))
        try:
            api = deployment.api(module="tests.chaos.embedded")
            _start([api], [])
            choose = random.Random(f"faults-{seed}")
            stage = EmbeddedStage(
                api=api,
                database=deployment.folder / "data" / "perfusion.db",
                lease_seconds=LEASE_SECONDS,
                choose=choose,
            )
            chosen = _shuffled(choose, embedded_faults.FAULTS * rounds)
            yield Scene(
                deployment=deployment,
                apis=[api],
                workers=[],
                choose=choose,
                faults=[(fault.__name__, partial(fault, stage)) for fault in chosen],
                seconds=5.0 * len(chosen),
            )
        finally:
            deployment.close()


@contextmanager
def _deployed(
    seed: int, *, mutant: bool, blobs_url: str | None = None
) -> Iterator[tuple[Stage, Deployment, LostAnswers]]:
    with (
        servers.all_three() as real,
        lost_answers(server_port=real.postgres.port, seed=f"answers-{seed}") as proxy,
        tempfile.TemporaryDirectory() as name,
    ):
        folder = Path(name)
        environment = real.new_deployment() | _stored(blobs_url)
        environment |= {
            disk.FLAG: str(folder / "disk-is-full"),
            worker.MUTANT: "yes" if mutant else "",
        }
        deployment = _deployment(folder, environment)
        try:
            deployment.migrate()
            # Only the product's processes use the proxy; faults and checks connect to the server.
            direct = environment["PERFUSION_DATABASE_URL"]
            through = {"database_url": proxy.url(direct)}
            apis = [deployment.api(module="tests.chaos.api", **through) for _ in range(2)]
            command = ["-m", "tests.chaos.worker"]
            workers = [deployment.process("worker", command, **through) for _ in range(2)]
            _start(apis, workers)
            stage = Stage(
                servers=real,
                proxy=proxy,
                apis=apis,
                workers=workers,
                disk_is_full=folder / "disk-is-full",
                database_url=direct,
                lease_seconds=LEASE_SECONDS,
                choose=random.Random(f"faults-{seed}"),
            )
            yield stage, deployment, proxy
        finally:
            deployment.close()


def _stored(blobs_url: str | None) -> dict[str, str]:
    """Return the environment for a store of blobs other than the scene's own."""
    return {} if blobs_url is None else {"PERFUSION_BLOBS_URL": blobs_url}


def _deployment(folder: Path, environment: dict[str, str]) -> Deployment:
    return Deployment(
        folder,
        {worker.JOURNAL: str(folder / "journal"), **environment},
        lease_seconds=LEASE_SECONDS,
        heartbeat_seconds=1,
        reconcile_seconds=0.5,
        requests_per_minute=100_000,
        # A job that meets many faults must still succeed.
        max_attempts=20,
        log_level="info",
        **webhooks.SETTINGS,
    )


def _start(apis: Sequence[Api], workers: Sequence[Process]) -> None:
    for process in (*workers, *(api.process for api in apis)):
        process.start()
    for api in apis:
        api.process.wait_until(api.answers, what="it answered", seconds=START_SECONDS)
        api.process.wait_until(api.is_ready, what="a worker was there", seconds=START_SECONDS)


def _scene(
    stage: Stage,
    deployment: Deployment,
    proxy: LostAnswers,
    *,
    chosen: Sequence[faults.Fault],
    seconds: float,
) -> Scene:
    return Scene(
        deployment=deployment,
        apis=stage.apis,
        workers=stage.workers,
        choose=stage.choose,
        faults=[(fault.__name__, partial(fault, stage)) for fault in chosen],
        seconds=seconds,
        proxy=proxy,
    )


def _shuffled(choose: random.Random, items: Sequence[T]) -> list[T]:
    return choose.sample(items, k=len(items))

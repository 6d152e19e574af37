"""One seed of chaos, or its mutant: `python -m tests.chaos 7`, `python -m tests.chaos 7 --mutant`.

Prints what happened as JSON; the list of violations is empty where every promise held.
"""

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from service.tables import Job
from service.views import TERMINAL
from service.wiring import Service
from tests.chaos import checks, disk, faults, worker
from tests.chaos.faults import FAULTS, Fault, Stage
from tests.chaos.orders import Clients, orders
from tests.integration import servers
from tests.integration.deployment import Deployment, wait_until
from tests.integration.servers import Servers

LEASE_SECONDS = 3
_DRAIN_SECONDS = 120
# Zombies alone: what only the lease token stands against.
_OF_THE_MUTANT = (faults.wake_a_zombie,) * 4


def run(seed: int, *, mutant: bool, count: int) -> dict[str, Any]:
    """Start everything, break everything, wait, and report."""
    with servers.all_three() as real, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        deployment = _deploy(folder, real, mutant=mutant)
        try:
            return _run(seed, deployment, real, mutant=mutant, count=count)
        finally:
            deployment.close()


def _run(
    seed: int, deployment: Deployment, real: Servers, *, mutant: bool, count: int
) -> dict[str, Any]:
    stage = _set_up(seed, deployment, real)
    chosen = list(_OF_THE_MUTANT if mutant else FAULTS * 2)
    stage.choose.shuffle(chosen)
    # As long as the faults take, so that each finds jobs that run; a zombie sleeps for a lease.
    seconds = (2.0 * LEASE_SECONDS if mutant else 2.2) * len(chosen)
    clients = Clients(stage.apis, orders(seed, count=count, seconds=seconds))
    clients.start()
    log = _break(stage, chosen)
    clients.join()
    service = deployment.service()
    drained_seconds = _wait_for_the_end(service)
    codes = [process.terminate() for process in (*stage.workers, *(a.process for a in stage.apis))]
    journal = deployment.folder / "journal"
    found = checks.violations(service, orders=clients.orders, journal=journal)
    if any(codes):
        found.append(f"processes ended with {codes}")
    with service.database.read() as session:
        ends = Counter(job.status.value for job in session.scalars(select(Job)))
        rerun = session.scalar(select(func.count()).where(Job.attempt > 1))
    service.close()
    return {
        "seed": seed,
        "jobs": sum(ends.values()),
        "ends": ends,
        "rerun": rerun,
        "faults": Counter(fault for fault, _ in log),
        "repeated": sum(order.repeats for order in clients.orders),
        "cancelled": sum(order.cancelled for order in clients.orders),
        "refused": sum(clients.refused.values()),
        "slowest_answer_seconds": round(clients.slowest_seconds, 1),
        "drained_seconds": round(drained_seconds, 1),
        "violations": clients.problems + found,
    }


def _deploy(folder: Path, real: Servers, *, mutant: bool) -> Deployment:
    environment = real.new_deployment() | {
        disk.FLAG: str(folder / "disk-is-full"),
        worker.JOURNAL: str(folder / "journal"),
        worker.MUTANT: "yes" if mutant else "",
    }
    deployment = Deployment(
        folder,
        environment,
        lease_seconds=LEASE_SECONDS,
        heartbeat_seconds=1,
        reconcile_seconds=0.5,
        requests_per_minute=100_000,
        # Chaos is not poison: a job that meets many faults must still end well.
        max_attempts=20,
        log_level="info",
    )
    deployment.migrate()
    return deployment


def _set_up(seed: int, deployment: Deployment, real: Servers) -> Stage:
    apis = [deployment.api(module="tests.chaos.api") for _ in range(2)]
    workers = [deployment.process("worker", ["-m", "tests.chaos.worker"]) for _ in range(2)]
    for process in (*workers, *(api.process for api in apis)):
        process.start()
    for api in apis:
        api.process.wait_until(api.answers, what="it answered")
        api.process.wait_until(api.is_ready, what="a worker was there")
    return Stage(
        servers=real,
        apis=apis,
        workers=workers,
        disk_is_full=deployment.folder / "disk-is-full",
        database_url=deployment.environment["PERFUSION_DATABASE_URL"],
        lease_seconds=LEASE_SECONDS,
        choose=random.Random(f"faults-{seed}"),
    )


def _break(stage: Stage, chosen: list[Fault]) -> list[tuple[str, float]]:
    log = []
    for fault in chosen:
        time.sleep(stage.choose.uniform(0.2, 1.2))
        began = time.monotonic()
        fault(stage)
        log.append((fault.__name__, time.monotonic() - began))
    return log


def _wait_for_the_end(service: Service) -> float:
    began = time.monotonic()

    def ended() -> bool:
        with service.database.read() as session:
            return not session.scalar(select(func.count()).where(Job.status.not_in(TERMINAL)))

    wait_until(ended, seconds=_DRAIN_SECONDS)
    return time.monotonic() - began


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument("--mutant", action="store_true", help="leave the lease token out")
    options = parser.parse_args()
    print(json.dumps(run(options.seed, mutant=options.mutant, count=options.jobs), indent=1))

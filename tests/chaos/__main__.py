"""Run one seed of chaos: `python -m tests.chaos 7`, or in another scene: `--scene sqlite`.

`--blobs-url sql:` keeps the blobs in the scene's database.

The report is JSON. Its lists of violations are empty if every promise held.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from sqlalchemy import func, select

from service.database.tables import JobRow, WorkerRow
from service.statuses import TERMINAL
from service.wiring import Service
from tests.chaos import checks, scenes, webhooks
from tests.chaos.orders import Clients, orders
from tests.chaos.scenes import Scene
from tests.chaos.webhooks import Hooks
from tests.integration.stack.deployment import ROOT, START_SECONDS, Deployment, wait_until
from tests.integration.stack.processes import Process

SCENES = ("postgres", "sqlite", "lost-answers", "mutant")
_DRAIN_SECONDS = 240


def run(seed: int, *, scene: AbstractContextManager[Scene], count: int) -> dict[str, Any]:
    """Start all processes and clients, cause the faults, wait for the jobs' ends, and report."""
    with scene as stage:
        hooks = Hooks(seed)
        clients = Clients(
            stage.apis,
            orders(seed, count=count, seconds=stage.seconds),
            webhook=hooks.receiver.url,
        )
        clients.start()
        met = _break(stage)
        clients.join()
        service = stage.deployment.service()
        try:
            drained_seconds = _wait_for_the_end(service)
            _wait_until_all_started(service, stage)
            codes = [process.terminate() for process in stage.processes]
            found = checks.violations(
                service,
                orders=clients.orders,
                journal=stage.deployment.folder / "journal",
                collect=partial(_collect, stage.deployment),
            )
            found["webhooks"] = webhooks.violations(service, hooks)
            report = _count(service)
        finally:
            service.close()
    found["clients"] = clients.problems
    found["processes"] = [f"processes ended with {codes}"] if any(codes) else []
    return report | {
        "seed": seed,
        "faults": met,
        "commits": stage.proxy.commits if stage.proxy else 0,
        "answers_lost": stage.proxy.lost if stage.proxy else 0,
        "webhooks": len(hooks.receiver.received),
        "webhook_repeats": hooks.repeats,
        "repeated": sum(order.repeats for order in clients.orders),
        "cancelled": sum(order.cancelled for order in clients.orders),
        "refused": sum(clients.refused.values()),
        "slowest_answer_seconds": round(clients.slowest_seconds, 1),
        "drained_seconds": round(drained_seconds, 1),
        "violations": found,
    }


def _break(stage: Scene) -> Counter[str]:
    for _, fault in stage.faults:
        time.sleep(stage.choose.uniform(0.2, 1.2))
        fault()
    return Counter(name for name, _ in stage.faults)


def _wait_for_the_end(service: Service) -> float:
    began = time.monotonic()

    def ended() -> bool:
        with service.database.read() as session:
            running = session.scalar(select(func.count()).where(JobRow.status.not_in(TERMINAL)))
            return not running and webhooks.none_waits(session)

    try:
        wait_until(ended, seconds=_DRAIN_SECONDS)
    except AssertionError as error:
        raise AssertionError(_what_is_left(service)) from error
    return time.monotonic() - began


def _what_is_left(service: Service) -> str:
    with service.database.read() as session:
        jobs = session.scalars(select(JobRow).where(JobRow.status.not_in(TERMINAL)))
        left = [f"{job.id} is {job.status.value}, attempt {job.attempt}" for job in jobs]
    return "; ".join(left + webhooks.waiting(service)) or "nothing"


def _wait_until_all_started(service: Service, stage: Scene) -> None:
    """Wait for restarted processes, because the exit code of an unfinished start says nothing."""
    for api in stage.apis:
        api.process.wait_until(api.answers, what="it answered", seconds=START_SECONDS)

    def is_alive(worker: Process) -> bool:
        with service.database.read() as session:
            return any(f"-{worker.pid}-" in name for name in session.scalars(select(WorkerRow.id)))

    for worker in stage.workers:
        alive = partial(is_alive, worker)
        worker.wait_until(alive, what="it was alive", seconds=START_SECONDS)


def _collect(deployment: Deployment) -> None:
    """Collect as an operator does after stopping every process."""
    subprocess.run(
        [sys.executable, "-m", "api", "blobs", "collect", "--all", "--grace", "0"],
        env=deployment.environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        check=True,
    )


def _count(service: Service) -> dict[str, Any]:
    with service.database.read() as session:
        ends = Counter(job.status.value for job in session.scalars(select(JobRow)))
        rerun = session.scalar(select(func.count()).where(JobRow.attempt > 1))
    return {"jobs": sum(ends.values()), "ends": ends, "rerun": rerun}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=2, help="how often each fault occurs")
    parser.add_argument("--scene", choices=SCENES, default="postgres")
    parser.add_argument(
        "--share", type=float, default=0.5, help="share of the answers that are lost"
    )
    parser.add_argument("--blobs-url", help="a store of blobs other than the scene's own")
    options = parser.parse_args()
    more = {"rounds": options.rounds, "blobs_url": options.blobs_url}
    make = {
        "postgres": partial(scenes.on_postgres, **more),
        "sqlite": partial(scenes.on_sqlite, **more),
        "lost-answers": partial(scenes.with_lost_answers, share=options.share, **more),
        "mutant": scenes.without_the_lease_token,
    }[options.scene]
    print(json.dumps(run(options.seed, scene=make(options.seed), count=options.jobs), indent=1))

"""Find the first limit of a deployment with many workers.

    python -m benchmarks.servers.simulation [--workers 1 10 100 1000] [--seconds 12]

The API, PostgreSQL (with fsync) and Redis are real; the workers only sleep. Claims, a heartbeat
every half second, ends, signs of life and reconciliation are the product's own code at its own
pace. A generation takes `--job-seconds`, and callers ask the API for as many as the workers can do.

The simulated workers share a few processes and connections. So the table also gives each server's
processor time. Divided by the work done, this is what a separate machine would need.
"""

import argparse
import multiprocessing
import tempfile
import threading
from pathlib import Path

import psutil

from benchmarks.servers import load_client
from benchmarks.servers.load import make_durable
from benchmarks.servers.sleepers import Crew, Done
from service import auth
from service.ids import new_id
from service.jobs import transitions
from service.settings.environment import load
from service.statuses import JobKind
from service.wiring import Service
from tests.integration.stack import servers
from tests.integration.stack.deployment import Deployment
from tests.integration.stack.servers import Postgres, Redis
from tests.unit.service import staging

_PROCESSES = 2
_OWNERS = 20
_MOST_REQUESTS_PER_SECOND = 50
_HEADING = (
    f"{'workers':>7} {'wanted/s':>9} {'done/s':>8} {'late ms':>8} {'beat p50':>9} {'p99 ms':>7} "
    f"{'claim p50':>10} {'p99 ms':>7} {'accept p50':>11} {'p99 ms':>7}   cores: "
    f"{'postgres':>8} {'redis':>6} {'api':>5} {'workers':>8}"
)


def main() -> None:
    """Print one line for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--job-seconds", type=float, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, servers.postgres() as postgres:
        make_durable(postgres)
        with servers.redis() as redis:
            print(_HEADING, flush=True)
            for workers in arguments.workers:
                _simulate(Path(folder), postgres, redis, workers, arguments)


def _simulate(
    folder: Path, postgres: Postgres, redis: Redis, workers: int, arguments: argparse.Namespace
) -> None:
    (folder / str(workers)).mkdir()
    deployment = Deployment(
        folder / str(workers),
        {"PERFUSION_DATABASE_URL": postgres.new_database(), "PERFUSION_QUEUE_URL": redis.url},
        auth="required",
        log_level="warning",
        requests_per_minute=1_000_000,
        max_queued_jobs_per_owner=100_000,
        max_running_jobs_per_owner=100_000,
    )
    deployment.migrate()
    service = deployment.service()
    try:
        staging.register_base_model(service)
        key, _ = auth.create_key(service, label="load")
        _fill_queue(service, int(workers * (arguments.seconds / arguments.job_seconds + 1)))
        api = deployment.api()
        api.start()
        processes = {
            "postgres": psutil.Process(postgres.process.pid),
            "redis": psutil.Process(redis.process.pid),
            "api": psutil.Process(api.process.pid),
        }
        before = {name: _cpu_seconds(process) for name, process in processes.items()}
        accepted: list[load_client.Measured] = []
        per_second = min(_MOST_REQUESTS_PER_SECOND, workers / arguments.job_seconds)

        def accept() -> None:
            accepted.append(
                load_client.run(
                    [api.port],
                    load_client.posts("/generate", b'{"prompt": "a photo of a cat"}', keys=[key]),
                    per_second=per_second,
                    seconds=arguments.seconds,
                )
            )

        accepting = threading.Thread(target=accept)
        accepting.start()
        done = _work(deployment.environment, workers, arguments)
        accepting.join()
        cores = {
            name: (_cpu_seconds(process) - before[name]) / arguments.seconds
            for name, process in processes.items()
        }
        _report(workers, done, accepted[0], cores, arguments)
    finally:
        service.close()
        deployment.close()


def _fill_queue(service: Service, jobs: int) -> None:
    """Queue jobs directly, because accepting them all would take longer than the whole run."""
    with service.database.write() as session:
        now = service.database.now(session)
        session.add_all(
            transitions.new_job(
                service,
                f"owner_{k % _OWNERS}",
                job_id=new_id("job"),
                kind=JobKind.GENERATE,
                payload={},
                total_steps=50,
                concept_id=None,
                now=now,
            )
            for k in range(jobs)
        )


def _work(environment: dict[str, str], workers: int, arguments: argparse.Namespace) -> Done:
    """Run the workers in a few processes; return the sum of what they did."""
    count = min(_PROCESSES, workers)
    context = multiprocessing.get_context("spawn")
    with context.Pool(count) as pool:
        shares = [workers // count + (k < workers % count) for k in range(count)]
        tasks = [
            (environment, share, k, arguments.seconds, arguments.job_seconds)
            for k, share in enumerate(shares)
        ]
        return sum(pool.starmap(_crew, tasks), Done())


def _crew(
    environment: dict[str, str], workers: int, number: int, seconds: float, job_seconds: float
) -> Done:
    from service import wiring

    service = wiring.build(load(environment))
    try:
        crew = Crew(service, f"crew-{number}", workers=workers, job_seconds=job_seconds)
        return crew.run(seconds)
    finally:
        service.close()


def _cpu_seconds(process: psutil.Process) -> float:
    total = 0.0
    for each in [process, *process.children(recursive=True)]:
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        # Ended children count as well: each connection of PostgreSQL is a process.
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _report(
    workers: int,
    done: Done,
    accepted: load_client.Measured,
    cores: dict[str, float],
    arguments: argparse.Namespace,
) -> None:
    wanted = workers * (2 + 1 / 2 + 1 / 5 + 2 / arguments.job_seconds)
    beat, claim = done.milliseconds("heartbeat"), done.milliseconds("claim")
    accept = (accepted.milliseconds(50), accepted.milliseconds(99))
    print(
        f"{workers:>7} {wanted:>9.0f} {done.count / arguments.seconds:>8.0f} {done.late_ms:>8.0f} "
        f"{beat[0]:>9.1f} {beat[1]:>7.1f} {claim[0]:>10.1f} {claim[1]:>7.1f} "
        f"{accept[0]:>11.1f} {accept[1]:>7.1f}          "
        f"{cores['postgres']:>8.2f} {cores['redis']:>6.2f} {cores['api']:>5.2f} "
        f"{done.cpu_seconds / arguments.seconds:>8.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()

"""Servers that are down, frozen or full: what can be stored is accepted, the rest is "not now".

The product's API and a worker whose jobs sleep run on real servers, and each test breaks one of
them. Every answer comes within `BOUNDED_SECONDS`, even from frozen servers.
"""

import io
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from PIL import Image

from service.blobs.local import LocalBlobs
from service.blobs.store import BlobNotFound
from service.errors import Unavailable
from tests.integration.stack.deployment import Api, Deployment, wait_until
from tests.integration.stack.processes import Process, free_ports
from tests.integration.stack.servers import Servers

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]
LEASE_SECONDS = 5
# The sum of the time limits of a request: connection, one exchange, and one retry.
BOUNDED_SECONDS = 25
# `perfusion serve` waits half a minute for its database; one try is enough here.
IMPATIENT = """
from functools import partial
from api.__main__ import main
from api.cli import database
database.await_server = partial(database.await_server, patience_seconds=0)
main()
"""


@pytest.fixture(scope="module")
def deployment(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    deployment = Deployment(
        tmp_path_factory.mktemp("outages"),
        servers.new_deployment(),
        lease_seconds=LEASE_SECONDS,
        reconcile_seconds=0.5,
        requests_per_minute=100_000,
    )
    deployment.migrate()
    yield deployment
    deployment.close()


@pytest.fixture(scope="module")
def worker(deployment: Deployment) -> Process:
    worker = deployment.process("worker", ["-m", "tests.chaos.worker"])
    worker.start()
    return worker


@pytest.fixture(scope="module")
def api(deployment: Deployment, worker: Process) -> Api:
    api = deployment.api()
    api.start()
    api.process.wait_until(api.is_ready, what="a worker was there")
    return api


@contextmanager
def frozen(process: Process) -> Iterator[None]:
    process.freeze()
    try:
        yield
    finally:
        process.thaw()


def generate(api: Api, *, steps: int = 2) -> httpx.Response:
    body = {"prompt": "a boat", "num_inference_steps": steps, "seed": 1}
    return api.http.post("/generate", json=body)


def accepted(api: Api, *, steps: int = 2) -> str:
    answer = generate(api, steps=steps)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job"]["id"])


def create_concept(api: Api, name: str) -> httpx.Response:
    file = io.BytesIO()
    Image.new("RGB", (48, 48), "teal").save(file, "PNG")
    return api.http.post(
        "/concepts",
        data={"name": name, "superclass": "boat", "training": '{"max_train_steps": 2}'},
        files=[("images", ("0.png", file.getvalue()))],
    )


def bounded(call: Callable[[], httpx.Response]) -> httpx.Response:
    began = time.monotonic()
    answer = call()
    assert time.monotonic() - began < BOUNDED_SECONDS
    return answer


def assert_not_now(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["content-type"] == "application/problem+json"


def missing(api: Api) -> str:
    answer = bounded(lambda: api.http.get("/readyz"))
    assert_not_now(answer)
    return str(answer.json()["detail"])


def assert_ready_again(api: Api) -> None:
    wait_until(api.is_ready, seconds=60)


def row(servers: Servers, deployment: Deployment, job_id: str) -> dict[str, Any]:
    url = deployment.environment["PERFUSION_DATABASE_URL"]
    with servers.postgres.connect(url) as connection:
        found = connection.execute(
            "SELECT status, attempt, attempts_spent FROM jobs WHERE id = %s", (job_id,)
        ).fetchone()
    assert found is not None
    return dict(zip(("status", "attempt", "attempts_spent"), found, strict=True))


def test_with_redis_down_jobs_are_accepted_and_run_once_it_is_back(
    api: Api, servers: Servers
) -> None:
    servers.redis.process.kill()
    try:
        job_ids = [accepted(api) for _ in range(3)]
        assert "queue" in missing(api)
    finally:
        servers.redis.start()
    for job_id in job_ids:
        assert api.wait_for(job_id)["status"] == "succeeded"
    assert_ready_again(api)


def test_with_redis_frozen_jobs_are_accepted_and_nobody_waits_for_it(
    api: Api, servers: Servers
) -> None:
    answers = []
    with frozen(servers.redis.process):
        for _ in range(3):
            began = time.monotonic()
            answers.append(generate(api))
            # An attempt to publish takes longer; the count of requests times out much earlier.
            assert time.monotonic() - began < 1.5
        assert [answer.status_code for answer in answers] == [202] * 3
        assert "queue" in missing(api)
    for answer in answers:
        assert api.wait_for(answer.json()["job"]["id"])["status"] == "succeeded"
    assert_ready_again(api)


@pytest.mark.parametrize("how", ["frozen", "killed"])
def test_without_s3_uploads_wait_and_everything_else_goes_on(
    api: Api, servers: Servers, deployment: Deployment, how: str
) -> None:
    done = api.wait_for(accepted(api))
    server = servers.s3.process
    server.freeze() if how == "frozen" else server.kill()
    try:
        assert_not_now(bounded(lambda: create_concept(api, f"without-s3-{how}")))
        assert_not_now(bounded(lambda: api.http.get(done["images"][0]["url"])))
        job_id = accepted(api)
        assert "blobs" in missing(api)
        # The worker cannot store its image and gives the job back.
        wait_until(lambda: row(servers, deployment, job_id)["attempt"] >= 1)
    finally:
        server.thaw() if how == "frozen" else servers.s3.start()
    assert_ready_again(api)
    job = api.wait_for(job_id)
    assert job["status"] == "succeeded"
    assert row(servers, deployment, job_id)["attempts_spent"] == 1
    assert api.http.get(job["images"][0]["url"]).status_code == 200
    # The refused request has not taken the name.
    assert create_concept(api, f"without-s3-{how}").status_code == 202


def test_with_postgres_down_for_longer_than_a_lease_nothing_is_lost_and_no_attempt_spent(
    api: Api, servers: Servers, deployment: Deployment
) -> None:
    job_id = accepted(api, steps=30)
    wait_until(lambda: api.job(job_id)["status"] == "running")
    servers.postgres.stop()
    try:
        assert_not_now(bounded(lambda: generate(api)))
        assert_not_now(bounded(lambda: api.http.get(f"/jobs/{job_id}")))
        assert "database" in missing(api)
        assert api.http.get("/healthz").status_code == 200
        time.sleep(LEASE_SECONDS + 2)
    finally:
        servers.postgres.start()
    assert_ready_again(api)
    assert api.wait_for(job_id)["status"] == "succeeded"
    assert row(servers, deployment, job_id)["attempts_spent"] == 1


def test_a_frozen_postgres_costs_a_bounded_wait_and_is_named(api: Api, servers: Servers) -> None:
    with frozen(servers.postgres.process):
        assert_not_now(bounded(lambda: generate(api)))
        assert api.http.get("/healthz", timeout=2).status_code == 200
        assert "database" in missing(api)
    assert_ready_again(api)
    assert api.wait_for(accepted(api))["status"] == "succeeded"


def test_with_everything_frozen_the_process_is_alive_and_names_all_of_it(
    api: Api, servers: Servers
) -> None:
    with (
        frozen(servers.postgres.process),
        frozen(servers.redis.process),
        frozen(servers.s3.process),
    ):
        assert api.http.get("/healthz", timeout=2).status_code == 200
        words = missing(api)
        assert all(name in words for name in ("database", "blobs", "queue"))
    assert_ready_again(api)


def test_without_workers_jobs_wait_in_the_queue(api: Api, worker: Process) -> None:
    assert worker.terminate() == 0
    job_id = accepted(api)
    assert "worker" in missing(api)
    assert api.job(job_id)["status"] == "queued"
    assert api.job(job_id)["queue_position"] == 1
    worker.start()
    assert api.wait_for(job_id)["status"] == "succeeded"
    assert_ready_again(api)


def test_a_job_whose_last_worker_was_killed_waits_again_though_no_worker_is_left(
    api: Api, worker: Process
) -> None:
    job_id = accepted(api, steps=100)
    wait_until(lambda: api.job(job_id)["status"] == "running")
    worker.kill()
    wait_until(lambda: api.job(job_id)["status"] == "queued", seconds=3 * LEASE_SECONDS)
    worker.start()
    assert api.wait_for(job_id)["status"] == "succeeded"
    assert_ready_again(api)


def test_a_worker_that_starts_before_its_servers_waits_for_them(
    api: Api, worker: Process, servers: Servers
) -> None:
    assert worker.terminate() == 0
    servers.redis.process.kill()
    servers.postgres.stop()
    worker.start()
    time.sleep(3)
    servers.postgres.start()
    servers.redis.start()
    assert_ready_again(api)
    assert worker.alive
    assert api.wait_for(accepted(api))["status"] == "succeeded"


def test_a_server_that_starts_without_its_database_says_so_in_a_sentence(
    deployment: Deployment,
) -> None:
    (free_port,) = free_ports(1)
    url = f"postgresql+psycopg://perfusion:hidden@127.0.0.1:{free_port}/perfusion"
    process = deployment.process("api", ["-c", IMPATIENT, "serve"], database_url=url)
    process.start()
    assert process.wait(seconds=60) == 1
    assert "database" in process.log
    assert "Traceback" not in process.log
    assert "hidden" not in process.log


def test_a_full_disk_refuses_the_whole_file_and_leaves_none_of_it(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    blobs.put("pictures/c/0.png", b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        for put in (blobs.put, blobs.put_new):
            with pytest.raises(Unavailable):
                put("pictures/c/1.png", bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert blobs.get("pictures/c/0.png") == b"old"
    with pytest.raises(BlobNotFound):
        blobs.get("pictures/c/1.png")
    assert [file.name for file in (tmp_path / "pictures" / "c").iterdir()] == ["0.png"]

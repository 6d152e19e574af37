"""Run schemathesis against the real application over HTTP: all checks, at least 1,000 requests.

It finds undocumented answers, headers and media types, accepted bad input, and crashes.
"""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from sqlalchemy import select

from service import auth, workers
from service.concepts import exports
from service.database.tables import JobRow
from service.execution import leases
from service.statuses import JobKind, JobStatus
from service.wiring import Service
from tests.integration.stack.processes import free_ports
from tests.security.conftest import Scene
from tests.unit.service import staging
from tests.unit.service.staging import try_to_claim

ROOT = Path(__file__).parents[2]
MIN_CASES = 1000
_MAX_SECONDS = 560
pytestmark = [pytest.mark.servers, pytest.mark.timeout(_MAX_SECONDS + 20)]
# No schema can say that bytes are a picture, that a placeholder names a concept, or that a cursor
# comes from a list.
CONFIG = """
[[operations]]
include-name = ["POST /concepts/import", "GET /concepts", "GET /jobs", "GET /images"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "409", "415", "422", "429"]

# Nor that an image exists, or that a mask lies inside a picture.
[[operations]]
include-name = ["POST /generate"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "404", "409", "415", "422", "429"]

# No schema can say which model is served, or that a size is a multiple of 8 here.
[[operations]]
include-name = ["POST /v1/images/generations", "GET /v1/models/{name}"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "404", "422", "429"]

# An idempotency key may come again with another request, which is a 422 by contract.
[[operations]]
include-name = [
    "POST /concepts/{ref}/train", "POST /concepts/{ref}/revert", "PATCH /concepts/{ref}"
]
checks.positive_data_acceptance.expected-statuses = ["2xx", "404", "409", "422", "429"]

# Each picture is decoded in a separate process, which takes time.
[[operations]]
include-name = ["POST /concepts", "POST /pictures/check", "POST /v1/images/edits"]
generation.max-examples = 10
checks.positive_data_acceptance.expected-statuses = ["2xx", "404", "409", "415", "422", "429"]

[phases.stateful]
generation.max-examples = 5
"""


def test_schemathesis_finds_nothing(scene: Scene, tmp_path: Path) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    owned = scene.owned
    key, _ = auth.create_key(
        scene.service, label="all", owner_id=scene.owner_id, scopes=auth.ALL_SCOPES
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_HOOKS": "tests.security.fuzz_hooks",
        "FUZZED_CONCEPT": owned.concept_name,
        "FUZZED_JOB": owned.job_id,
        "FUZZED_TRAINING": owned.training_id,
        "FUZZED_IMAGE": owned.image_id,
        "NO_PROXY": "127.0.0.1",
    }
    report = tmp_path / "report.txt"
    with serving(scene) as port, finishing_jobs(scene.service), report.open("w") as output:
        done = subprocess.run(
            [
                str(Path(sys.executable).parent / "st"),
                *("--config-file", str(config), "run", f"http://127.0.0.1:{port}/openapi.json"),
                *("--checks", "all", "--continue-on-failure", "--max-examples", "30"),
                *("--header", f"Authorization: Bearer {key}", "--seed", "1"),
                *("--request-timeout", "20", "--no-color"),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=tmp_path,
            timeout=_MAX_SECONDS,
        )
    text = report.read_text()
    assert done.returncode == 0, text[-20_000:]
    cases = re.search(r"([\d,]+) generated", text)
    assert cases is not None, text[-2000:]
    assert int(cases[1].replace(",", "")) >= MIN_CASES


@contextmanager
def serving(scene: Scene) -> Iterator[int]:
    """Serve the application over HTTP, as uvicorn does in production."""
    (port,) = free_ports(1)
    config = uvicorn.Config(scene.app, port=port, access_log=False, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            thread.join(0.05)
        yield port
    finally:
        server.should_exit = True
        thread.join(20)


@contextmanager
def finishing_jobs(service: Service) -> Iterator[None]:
    """Finish every queued job at once, so that no stream of events stays open."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.05):
            workers.seen(service, "token", queues=["generate", "train"], device="none")
            for export in exports.requested(
                service, base_model="base-1", covariance="cov-1", but=frozenset()
            ):
                exports.store(service, export, b"lora")
            with service.database.read() as session:
                waiting = list(
                    session.scalars(select(JobRow.id).where(JobRow.status == JobStatus.QUEUED))
                )
            for job_id in waiting:
                claimed = try_to_claim(service, job_id, worker_id="token")
                if claimed is None:
                    continue
                if claimed.kind is JobKind.TRAIN:
                    leases.finish_training(
                        service, claimed, trained=staging.trained(service, claimed)
                    )
                else:
                    images = staging.generated(service, claimed)
                    leases.finish_generation(service, claimed, images=images)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(20)

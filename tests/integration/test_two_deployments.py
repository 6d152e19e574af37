"""Two deployments learn the same concept and generate the same bytes.

The first is the embedded default: one process, SQLite, a folder, no broker. The second has separate
API and worker processes on PostgreSQL, S3 and Redis. A killed worker of the second only costs time.
"""

import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from service.blobs import keys
from service.blobs.store import BlobNotFound
from tests.integration.stack.deployment import Api, Deployment, wait_until
from tests.integration.stack.processes import Process
from tests.integration.stack.servers import Servers

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]
STEPS = 8
LEASE_SECONDS = 6
# The last heartbeat may be as old as a heartbeat's interval; the rest is for a busy machine.
LEASE_AND_RECONCILE_SECONDS = 20


def photo() -> bytes:
    picture = Image.new("RGB", (96, 96), (240, 240, 250))
    ImageDraw.Draw(picture).rectangle((24, 30, 66, 80), fill=(120, 60, 170))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def teach(api: Api, *, steps: int, name: str = "rex") -> str:
    """Ask for a training, and return the id of its job."""
    training = {"max_train_steps": steps, "train_batch_size": 1, "seed": 5}
    answer = api.http.post(
        "/concepts",
        data={"name": name, "superclass": "robot", "training": json.dumps(training)},
        files=[("images", ("0.png", photo()))],
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job"]["id"])


def draw(api: Api) -> list[bytes]:
    """Generate two images of the concept, and return their files."""
    body = {"prompt": "a photo of <rex:0.7>", "seed": 11, "num_images": 2}
    answer = api.http.post("/generate", json={**body, "num_inference_steps": STEPS})
    assert answer.status_code == 202, answer.text
    job = api.wait_for(answer.json()["job"]["id"])
    assert job["status"] == "succeeded", job["error"]
    return [api.http.get(image["url"]).content for image in job["images"]]


def scenario(api: Api) -> tuple[bytes, list[bytes]]:
    """Train a concept, and return its file and the files of two images."""
    job = api.wait_for(teach(api, steps=STEPS))
    assert job["status"] == "succeeded", job["error"]
    return api.http.get("/concepts/rex/file").content, draw(api)


@pytest.fixture(scope="module")
def embedded(
    tmp_path_factory: pytest.TempPathFactory, tiny_base: Path
) -> Iterator[tuple[bytes, list[bytes]]]:
    """Yield the files that the embedded default makes."""
    folder = tmp_path_factory.mktemp("embedded")
    deployment = Deployment(folder, {}, base_model=tiny_base, evaluator="none")
    api = deployment.api()
    try:
        api.start()
        api.process.wait_until(api.is_ready, what="the base model was there", seconds=300, every=1)
        yield scenario(api)
        assert api.process.terminate() == 0
    finally:
        deployment.close()


@pytest.fixture(scope="module")
def distributed(
    servers: Servers, tmp_path_factory: pytest.TempPathFactory, tiny_base: Path
) -> Iterator[Deployment]:
    deployment = Deployment(
        tmp_path_factory.mktemp("distributed"),
        servers.new_deployment(),
        base_model=tiny_base,
        evaluator="none",
        checkpoint_seconds=0.5,
        lease_seconds=LEASE_SECONDS,
        reconcile_seconds=1,
    )
    deployment.migrate()
    yield deployment
    deployment.close()


@pytest.fixture(scope="module")
def worker(distributed: Deployment) -> Process:
    worker = distributed.worker()
    worker.start()
    return worker


@pytest.fixture(scope="module")
def api(distributed: Deployment, worker: Process) -> Api:
    api = distributed.api()
    api.start()
    api.process.wait_until(api.is_ready, what="the base model was there", seconds=300, every=1)
    return api


def test_both_deployments_make_the_same_bytes(
    embedded: tuple[bytes, list[bytes]], api: Api
) -> None:
    concept, images = scenario(api)
    assert concept == embedded[0]
    assert images == embedded[1]
    assert images[0] != images[1]


def test_a_training_whose_worker_is_killed_goes_on_from_its_state_within_a_lease(
    api: Api, distributed: Deployment, worker: Process
) -> None:
    job_id = teach(api, steps=5000, name="killed")
    saved = _saved_step(distributed)
    wait_until(lambda: saved(job_id) >= 2)
    other = distributed.worker("--queues", "train")
    other.start()
    other.wait_until(
        lambda: '"base_model.loaded"' in other.log, what="its base model was loaded", seconds=300
    )
    worker.kill()
    killed_at = time.monotonic()
    step = saved(job_id)
    wait_until(lambda: api.job(job_id)["attempt"] == 2, seconds=120)
    assert time.monotonic() - killed_at < LEASE_AND_RECONCILE_SECONDS
    wait_until(lambda: f'"step": {step}, "event": "training.resumed"' in other.log)
    wait_until(lambda: api.job(job_id)["progress"]["step"] > step)
    # On a request to stop, the worker saves its state and gives the job back at once.
    assert other.terminate() == 0
    assert api.job(job_id)["status"] == "queued"
    assert saved(job_id) > step
    assert api.http.post(f"/jobs/{job_id}/cancel").status_code == 202
    assert api.job(job_id)["status"] == "cancelled"


def _saved_step(deployment: Deployment) -> Callable[[str], int]:
    """Return a function that gives the step of a training's newest checkpoint, or 0."""
    store = deployment.service().blobs

    def saved(job_id: str) -> int:
        steps = [0]
        for blob in store.list(keys.job_prefix(job_id)):
            # The checkpoint of an older attempt may be deleted during this loop.
            with suppress(BlobNotFound):
                if blob.key.endswith("/state.safetensors"):
                    data = store.get(blob.key)
                    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
                    steps.append(int(header["__metadata__"]["step"]))
        return max(steps)

    return saved

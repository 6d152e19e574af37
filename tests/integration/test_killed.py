"""After kill -9 during a training or a generation, no accepted job is lost or doubled."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.integration.stack.deployment import photos
from tests.integration.stack.server import Server

FINAL = {"succeeded", "failed", "cancelled"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Iterator[Server]:
    """Yield a running server. A test that ends it starts it again."""
    settings = {"base_model": tiny_base, "checkpoint_seconds": 0.3}
    server = Server(tmp_path_factory.mktemp("server"), **settings)
    server.start()
    yield server
    server.close()


def assert_ended_once(server: Server, job_id: str, end: str) -> None:
    statuses = server.statuses(job_id)
    assert statuses[-1] == end
    assert sum(status in FINAL for status in statuses) == 1


def test_a_training_survives_kill_9_and_goes_on_from_its_saved_state(server: Server) -> None:
    job_id = server.post_training(photos(), name="rex", max_train_steps=150, train_batch_size=2)
    server.wait_until(lambda: server.saved_step(job_id) >= 4)
    server.kill()
    saved = server.saved_step(job_id)
    assert server.statuses(job_id) == ["queued", "running"]

    server.start()
    job = server.wait_for(job_id)
    assert f'"step": {saved}, ' in resumed(server)
    assert (job["status"], job["attempt"]) == ("succeeded", 2)
    assert_ended_once(server, job_id, "succeeded")
    concept = server.http.get("/concepts/rex").json()
    file = server.http.get("/concepts/rex/file").content
    assert (concept["status"], concept["bytes"]) == ("ready", len(file))


def resumed(server: Server) -> str:
    """Return the log line that says from which step a training resumed."""
    lines = [line for line in server.log.splitlines() if "training.resumed" in line]
    assert lines, server.log[-4000:]
    return lines[0]


def test_generations_survive_kill_9_whether_they_ran_or_waited(server: Server) -> None:
    request = {"num_inference_steps": 60, "num_images": 1}
    job_ids = [server.post_generation(f"a photo of {n} dogs", seed=n, **request) for n in range(10)]
    server.wait_until(lambda: any(server.job(job_id)["progress"]["step"] for job_id in job_ids))
    server.kill()
    interrupted = [job_id for job_id in job_ids if server.statuses(job_id)[-1] == "running"]
    waiting = [job_id for job_id in job_ids if server.statuses(job_id) == ["queued"]]
    assert interrupted
    assert waiting

    server.start()
    for job_id in job_ids:
        job = server.wait_for(job_id)
        assert job["status"] == "succeeded", job["error"]
        assert len(job["images"]) == 1
        assert_ended_once(server, job_id, "succeeded")
    # A retry repeats the same work.
    job = server.job(interrupted[0])
    number = job_ids.index(interrupted[0])
    again = server.wait_for(
        server.post_generation(f"a photo of {number} dogs", seed=number, **request)
    )
    for image, other in zip(job["images"], again["images"], strict=True):
        assert image["seed"] == other["seed"]
        assert apart(server, image["url"], other["url"]) <= 1


def test_a_sweep_survives_kill_9_and_its_sheet_shows_no_deleted_image(server: Server) -> None:
    axes = [{"field": "guidance_scale", "values": [2, 4, 6]}, {"field": "seed", "values": [1, 2]}]
    swept = {"num_inference_steps": 30, "sweep": {"axes": axes}}
    job_id = server.post_generation("a photo of a dog", **swept)
    server.wait_until(lambda: server.job(job_id)["progress"]["step"] > 0)
    server.kill()
    server.start()
    job = server.wait_for(job_id)
    assert job["status"] == "succeeded"
    assert_ended_once(server, job_id, "succeeded")
    cells = {tuple(image["cell"]): image for image in job["images"]}
    assert list(cells) == [(column, row) for row in range(2) for column in range(3)]
    assert [cell["seed"] for cell in cells.values()] == [1, 1, 1, 2, 2, 2]
    assert job["request"]["sweep"]["axes"] == axes

    alone = server.post_generation(
        "a photo of a dog", num_inference_steps=30, guidance_scale=6, seed=2
    )
    pixels = [
        np.asarray(Image.open(io.BytesIO(server.http.get(image["url"]).content)), np.int16)
        for image in (cells[2, 1], server.wait_for(alone)["images"][0])
    ]
    assert np.abs(pixels[0] - pixels[1]).max() <= 1

    sheet = server.http.get(f"/jobs/{job_id}/sheet")
    assert Image.open(io.BytesIO(sheet.content)).format == "PNG"
    seen = {"If-None-Match": sheet.headers["etag"]}
    assert server.http.get(f"/jobs/{job_id}/sheet", headers=seen).status_code == 304
    assert server.http.delete(f"/images/{cells[0, 0]['id']}").status_code == 204
    without = server.http.get(f"/jobs/{job_id}/sheet", headers=seen)
    assert (without.status_code, without.content != sheet.content) == (200, True)
    assert server.http.get(f"/jobs/{alone}/sheet").status_code == 404


def test_a_server_that_is_asked_to_stop_does_so_in_good_order(server: Server) -> None:
    job_id = server.post_training(photos(), name="dino", max_train_steps=5000)
    server.wait_until(lambda: server.job(job_id)["progress"]["step"] > 0)
    assert server.terminate() == 0
    assert server.saved_step(job_id) > 0
    assert server.statuses(job_id) == ["queued", "running", "queued"]


def apart(server: Server, first_url: str, second_url: str) -> int:
    """Return the largest difference between two images, in grey levels."""
    files = [server.http.get(url).content for url in (first_url, second_url)]
    first, second = (np.asarray(Image.open(io.BytesIO(file)), np.int16) for file in files)
    return int(np.abs(first - second).max())

"""An edit on PostgreSQL and S3: its picture waits in the store for a worker, and goes with it."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.integration.stack.deployment import Deployment
from tests.unit.service.staging import encoded, opened, picture

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]


def test_an_edit_waits_in_the_store_and_keeps_every_pixel_outside_its_mask(
    deploy: Callable[..., Deployment], tiny_base: Path
) -> None:
    deployment = deploy(base_model=tiny_base, evaluator="none", segmenter="none")
    api = deployment.api()
    api.start()
    photo = picture(size=(300, 200))
    mask = {"boxes": [[100, 60, 80, 60]]}
    asked = {"prompt": "a dog", "mask": mask, "num_inference_steps": 2, "seed": 5}
    files = {"request": (None, json.dumps(asked)), "image": ("photo.png", encoded(photo))}
    key = {"Idempotency-Key": "once"}
    answer = api.http.post("/generate", files=files, headers=key)
    assert answer.status_code == 202, answer.text
    again = api.http.post("/generate", files=files, headers=key)
    assert again.json() == answer.json()
    job_id = answer.json()["job"]["id"]
    service = deployment.service()
    try:
        uploaded = f"jobs/{job_id}/edit/picture.png"
        assert [blob.key for blob in service.blobs.list("jobs/")] == [uploaded]
        assert opened(service.blobs.get(uploaded)).tobytes() == photo.tobytes()
        deployment.worker().start()
        job = api.wait_for(job_id)
        assert job["status"] == "succeeded", job["error"]
        data = api.http.get(job["images"][0]["url"]).content
        made = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        differs = (made != np.asarray(photo)).any(axis=2)
        assert differs[60:120, 100:180].any()
        differs[60:120, 100:180] = False
        assert not differs.any()
        assert [blob.key for blob in service.blobs.list("jobs/")] == [
            f"jobs/{job_id}/1/0.png", f"jobs/{job_id}/1/0.webp",
        ]  # fmt: skip
    finally:
        service.close()

"""Two releases on one database: their processes, and a client's requests to them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.stack.deployment import Api, Deployment, ask_to_teach
from tests.integration.stack.processes import Process
from tests.integration.stack.servers import Servers


@dataclass
class Release:
    """The processes of one release: an API, a worker and a command."""

    deployment: Deployment
    api: Api
    worker: Process

    def start(self) -> None:
        """Start both, and wait until they accept and do work."""
        self.api.process.start()
        self.start_worker()
        self.api.process.wait_until(self.api.answers, what="it answered")
        self.api.process.wait_until(self.api.is_ready, what="it was ready")

    def start_worker(self) -> None:
        """Start the worker, and wait until it has its base model."""
        loaded = '"base_model.loaded"'
        before = self.worker.log.count(loaded) if self.worker.log_file.exists() else 0
        self.worker.start()
        self.worker.wait_until(
            lambda: self.worker.log.count(loaded) > before, what="its base model was loaded"
        )

    def stop(self) -> None:
        """Stop both by SIGTERM; their exit codes are 0."""
        assert self.worker.terminate() == 0, self.worker.log[-4000:]
        assert self.api.process.terminate() == 0, self.api.process.log[-4000:]


class Upgrade:
    """Two releases that share a database, a queue and a store of blobs."""

    def __init__(self, folder: Path, servers: Servers, old_code: Path, tiny_base: Path) -> None:
        settings = {
            "base_model": tiny_base,
            "evaluator": "none",
            "lease_seconds": 10,
            "reconcile_seconds": 0.3,
            "checkpoint_seconds": 0.3,
            "requests_per_minute": 100_000,  # the waits of the test ask often
        }
        environment = servers.new_deployment()
        self.old = _release(Deployment(folder / "old", environment, code=old_code, **settings))
        self.new = _release(Deployment(folder / "new", environment, **settings))
        self.service = self.new.deployment.service()

    def close(self) -> None:
        self.service.close()
        for release in (self.old, self.new):
            release.deployment.close()


def _release(deployment: Deployment) -> Release:
    deployment.folder.mkdir()
    return Release(deployment, deployment.api(), deployment.worker())


def succeed(done: Any) -> str:
    """Assert that a command succeeded, and return its output."""
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def teach(api: Api, name: str, *, steps: int = 3) -> str:
    return ask_to_teach(api.http, name, steps=steps)


def draw(api: Api, prompt: str, *, steps: int = 2) -> str:
    request = {"prompt": prompt, "num_inference_steps": steps, "seed": 7, "num_images": 2}
    request["attention_maps"] = True
    answer = api.http.post("/generate", json=request)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job"]["id"])


def ended(api: Api, *job_ids: str) -> bool:
    """Wait until all have succeeded."""
    for job_id in job_ids:
        job = api.wait_for(job_id)
        assert job["status"] == "succeeded", job["error"]
    return True


def refused(api: Api, prompt: str) -> None:
    """Assert that a prompt with a concept of another base model is refused."""
    answer = api.http.post("/generate", json={"prompt": prompt})
    assert answer.status_code == 409, answer.text
    assert answer.json()["type"] == "/problems/base-model-mismatch"


def everything(api: Api, *, only: dict[str, str] | None = None) -> dict[str, str]:
    """Return the hashes of all concept files, images, attention maps and previews, by path."""
    if only is not None:
        return {path: _hash(api, path) for path in only}
    found = {}
    for concept in api.http.get("/concepts", params={"limit": 100}).json()["items"]:
        if concept["status"] == "ready":
            found[f"/concepts/{concept['name']}/file"] = ""
    for job in api.http.get("/jobs", params={"limit": 100}).json()["items"]:
        preview = f"/jobs/{job['id']}/preview"
        if api.http.get(preview).status_code == 200:
            found[preview] = ""
        for image in job["images"]:
            found[image["url"]] = ""
            found |= {shown["url"]: "" for shown in image["attention_maps"]}
    assert found
    return everything(api, only=found)


def _hash(api: Api, path: str) -> str:
    answer = api.http.get(path)
    assert answer.status_code == 200, f"{path}: {answer.text}"
    return hashlib.sha256(answer.content).hexdigest()

"""Processes of the product, `perfusion serve` and `perfusion worker`, on chosen URLs."""

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2 as httpx
from PIL import Image, ImageDraw

import migrations
from service import wiring
from service.settings.environment import load
from service.wiring import Service
from tests.integration.stack.processes import Process, free_ports

ROOT = Path(__file__).parents[3]
START_SECONDS = 90


class Api:
    """An API process and its client."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.port = port
        # Longer than any promised time, so that a test can measure how long an answer took.
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)

    def start(self) -> None:
        """Start the API, and wait until it answers; it may be ready only later."""
        self.process.start()
        self.process.wait_until(self.answers, what="it answered", seconds=START_SECONDS)

    def answers(self) -> bool:
        """Return whether the process serves HTTP."""
        try:
            return self.http.get("/healthz", timeout=1).status_code == 200
        except httpx.TransportError:
            return False

    def is_ready(self) -> bool:
        """Return whether database, blobs, queue and a worker are there."""
        return self.http.get("/readyz").status_code == 200

    def job(self, job_id: str) -> dict[str, Any]:
        """Return the job, as a client sees it."""
        answer = self.http.get(f"/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def wait_for(self, job_id: str, *, seconds: float = 120) -> dict[str, Any]:
        """Wait for the job's end, and return the job."""
        wait_until(lambda: self.job(job_id)["finished_at"] is not None, seconds=seconds)
        return self.job(job_id)


class Deployment:
    """API and worker processes that share one environment. `close` kills those that still run."""

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *,
        code: Path = ROOT,
        **settings: object,
    ) -> None:
        """Prepare the environment; no process starts yet.

        `settings` are the product's own: `lease_seconds=3` is PERFUSION_LEASE_SECONDS. `code` is
        the folder of the packages, which may be those of another release.
        """
        self.folder = folder
        self._code = code
        options = {
            "data_dir": folder / "data",
            "log_level": "debug",
            "log_format": "json",
            **settings,
        }
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("PERFUSION_", "AWS_"))},
            # On busy cores two threads spend their time waiting for each other.
            "OMP_NUM_THREADS": "1",
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(code),
            **environment,
            **{f"PERFUSION_{name.upper()}": str(value) for name, value in options.items()},
        }
        self.processes: list[Process] = []
        self._apis: list[Api] = []

    def migrate(self) -> None:
        """Migrate the database, as `perfusion migrate` does."""
        migrations.upgrade(self.environment["PERFUSION_DATABASE_URL"])

    def service(self) -> Service:
        """Return a service on the same URLs for the test itself, which closes it."""
        # boto3 reads its credentials from this process, which may have none or other ones.
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            if name in self.environment:
                os.environ[name] = self.environment[name]
        return wiring.build(load(self.environment))

    def api(self, *, module: str = "api", **settings: object) -> Api:
        """Return an API process, not started yet."""
        (port,) = free_ports(1)
        command = ["-m", module, "serve", "--port", str(port)]
        api = Api(self.process("api", command, **settings), port)
        self._apis.append(api)
        return api

    def worker(self, *options: str, **settings: object) -> Process:
        """Return a worker process with torch, not started yet."""
        return self.process("worker", ["-m", "api", "worker", *options], **settings)

    def process(self, name: str, arguments: list[str], **settings: object) -> Process:
        """Return a Python process of this deployment, not started yet."""
        more = {f"PERFUSION_{key.upper()}": str(value) for key, value in settings.items()}
        process = Process(
            [sys.executable, *arguments],
            log=self.folder / f"{name}-{len(self.processes)}.log",
            environment=self.environment | more,
            folder=self._code,
        )
        self.processes.append(process)
        return process

    def python(self, *arguments: str, **settings: object) -> "subprocess.CompletedProcess[str]":
        """Run Python in this deployment, with arguments such as `"-m", "api", "migrate"`."""
        more = {f"PERFUSION_{key.upper()}": str(value) for key, value in settings.items()}
        return subprocess.run(
            [sys.executable, *arguments],
            env=self.environment | more,
            cwd=self._code,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )

    def close(self) -> None:
        """Kill the processes that still run."""
        for process in self.processes:
            process.kill()
        for api in self._apis:
            api.http.close()


def wait_until(true: Callable[[], bool], *, seconds: float = 60) -> None:
    """Wait until `true` returns True."""
    give_up_at = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up_at, "waited in vain"
        time.sleep(0.1)


def photos() -> list[bytes]:
    """Return two pictures of a drawn toy, as PNG files."""
    files = []
    for shift in (0, 6):
        picture = Image.new("RGB", (96, 96), (240, 240, 250))
        pen = ImageDraw.Draw(picture)
        pen.rectangle((24 + shift, 30, 66 + shift, 80), fill=(120, 60, 170))
        pen.ellipse((34 + shift, 40, 44 + shift, 50), fill=(250, 220, 60))
        file = io.BytesIO()
        picture.save(file, "PNG")
        files.append(file.getvalue())
    return files


def ask_to_teach(http: httpx.Client, name: str, *, steps: int = 8) -> str:
    """Ask for a short training from two photos, and return the job's id."""
    answer = http.post(
        "/concepts",
        data={
            "name": name,
            "superclass": "robot",
            "training": json.dumps({"max_train_steps": steps, "train_batch_size": 2}),
        },
        files=[("images", (f"{n}.png", file)) for n, file in enumerate(photos())],
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job"]["id"])

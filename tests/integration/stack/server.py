"""The real server as a subprocess that tests kill. They talk to it only over HTTP."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2 as httpx

ROOT = Path(__file__).parents[3]
_READY_SECONDS = 90


class Server:
    """`perfusion serve` on a data folder that outlives it."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self._settings = settings
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(timeout=60)

    @property
    def log(self) -> str:
        """The log of the current process."""
        return self._log_file.read_text(errors="replace")

    @property
    def _log_file(self) -> Path:
        return self.folder / f"log-{self._starts}.txt"

    def start(self) -> None:
        """Start a process and wait until it is ready."""
        self._starts += 1
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.http.base_url = httpx.URL(f"http://127.0.0.1:{port}")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PERFUSION_")}
        options = {
            "data_dir": self.folder / "data",
            "reconcile_seconds": 0.2,
            "log_level": "debug",
            "log_format": "json",
            **self._settings,
        }
        environment |= {f"PERFUSION_{name.upper()}": str(value) for name, value in options.items()}
        # On busy cores two threads spend their time waiting for each other.
        environment |= {"OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1"}
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "api", "serve", "--port", str(port)],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.wait_until(self._is_ready, timeout_seconds=_READY_SECONDS)

    def kill(self) -> None:
        """Kill the process at once, whatever it does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self) -> int:
        """Ask the process to stop, and return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)

    def close(self) -> None:
        """Kill the process if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self.http.close()

    def post_training(self, pictures: list[bytes], *, name: str, **training: object) -> str:
        """Post a training, and return the job's id."""
        answer = self.http.post(
            "/concepts",
            data={"name": name, "superclass": "robot", "training": json.dumps(training)},
            files=[("images", (f"{n}.png", file)) for n, file in enumerate(pictures)],
        )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["job"]["id"])

    def post_generation(self, prompt: str, **options: object) -> str:
        """Post a generation, and return the job's id."""
        answer = self.http.post("/generate", json={"prompt": prompt, **options})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["job"]["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        """Return the job, as a client sees it."""
        answer = self.http.get(f"/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def wait_for(self, job_id: str, *, timeout_seconds: float = 120) -> dict[str, Any]:
        """Wait for the job's end, and return the job."""
        self.wait_until(
            lambda: self.job(job_id)["finished_at"] is not None, timeout_seconds=timeout_seconds
        )
        return self.job(job_id)

    def wait_until(self, true: Callable[[], bool], *, timeout_seconds: float = 60) -> None:
        """Wait until `true` returns True. Fail at once if the process dies."""
        give_up_at = time.monotonic() + timeout_seconds
        while not true():
            assert self._process is not None
            assert self._process.poll() is None, f"the server died:\n{self.log[-4000:]}"
            assert time.monotonic() < give_up_at, f"waited in vain:\n{self.log[-4000:]}"
            time.sleep(0.12)  # slow enough to stay below the limit of requests

    def saved_step(self, job_id: str) -> int:
        """Return the step of the newest checkpoint in the blobs, or 0."""
        job = self.folder / "data" / "blobs" / "jobs" / job_id
        steps = [0]
        for file in job.glob("*/state.safetensors"):
            data = file.read_bytes()
            header = data[8 : 8 + int.from_bytes(data[:8], "little")]
            steps.append(int(json.loads(header)["__metadata__"]["step"]))
        return max(steps)

    def statuses(self, job_id: str) -> list[str]:
        """Return every status that the job has had, from its audit."""
        with sqlite3.connect(self.folder / "data" / "perfusion.db") as database:
            rows = database.execute(
                "SELECT to_status FROM job_events WHERE job_id = ? ORDER BY id", (job_id,)
            )
            return [status for (status,) in rows]

    def _is_ready(self) -> bool:
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

"""The command lines, environments and health checks of docker-compose.yml do the main job.

The test needs no container engine: plain_stack.py runs the services as plain processes.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.integration.stack.deployment import ROOT
from tests.integration.stack.plain_stack import PlainStack

STORES = ("postgres", "redis", "s3")
WORKERS = ("worker-generate-cpu", "worker-train-cpu")


@pytest.fixture
def stack() -> Iterator[PlainStack]:
    """Yield the stack of the profile `cpu`, in a folder that other users may enter."""
    folder = Path(tempfile.mkdtemp(prefix="perfusion-stack-"))
    folder.chmod(0o711)
    # Judging the concepts would take most of the test's time.
    stack = PlainStack(folder, profile="cpu", evaluator="none")
    try:
        yield stack
    finally:
        stack.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.servers
@pytest.mark.timeout(1200)
def test_the_stack_of_the_compose_file_does_the_main_job(stack: PlainStack) -> None:
    for name in STORES:
        stack.start(name)
    for name in STORES:
        stack.wait_until_healthy(name)
    assert stack.start("migrate").wait(seconds=60) == 0
    stack.start("api")
    stack.wait_until_healthy("api")
    assert not any(stack.is_healthy(name) for name in WORKERS)  # none runs yet
    for name in WORKERS:
        stack.start(name)
    for name in WORKERS:  # loading torch and the base model is slow on a busy machine
        stack.wait_until_logged(name, "base_model.loaded", seconds=400)
    for name in WORKERS:
        stack.wait_until_healthy(name)

    with httpx.Client(base_url=stack.url, timeout=60, trust_env=False) as http:
        assert http.get("/readyz").status_code == 200
        assert http.get("/jobs").status_code == 401  # a key is needed, also on loopback
        http.headers["Authorization"] = f"Bearer {stack.key}"
        assert "perfusion_live_workers" in http.get("/metrics").text

    run_the_smoke_test(stack)

    for name in (*WORKERS, "api", "redis", "s3", "postgres"):
        assert stack.stop(name) == 0, name


def run_the_smoke_test(stack: PlainStack) -> None:
    """Run docker/smoke.sh on this stack, which is what its `docker compose` starts here.

    It teaches a concept, and generates and reads an image of it.
    """
    programs = stack.env_file.parent / "programs"
    programs.mkdir()
    (programs / "docker").write_text("#!/bin/sh\n")
    (programs / "docker").chmod(0o755)
    done = subprocess.run(
        ["sh", ROOT / "docker" / "smoke.sh", stack.env_file],
        env={
            "PATH": f"{programs}:{os.environ['PATH']}",
            "LISTEN": stack.url.removeprefix("http://"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("The main job works.\n")

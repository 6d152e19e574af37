"""Clients that others' generators make from OpenAPI do the main job and compile.

The commands and the configuration are those of docs/api.md.
"""

import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx  # what generated clients speak through
import pytest
from PIL import Image

from api.app import create_app
from service import wiring
from service.settings.environment import Settings
from tests.integration.clients.conftest import KEY
from tests.integration.stack.deployment import ROOT, Api, photos

_TYPESCRIPT = Path(__file__).parent / "typescript"


@pytest.fixture(scope="module")
def openapi_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    service = wiring.build(Settings.model_validate({"database_url": "sqlite:///:memory:"}))
    document = create_app(service, embedded=False).openapi()
    service.close()
    file = tmp_path_factory.mktemp("openapi") / "openapi.json"
    file.write_text(json.dumps(document))
    return file


@pytest.fixture(scope="module")
def configuration() -> str:
    """Return the configuration of openapi-python-client that docs/api.md shows."""
    shown = re.search(r"```yaml\n(content_type_overrides:.*?)```", document(), re.DOTALL)
    assert shown is not None
    return shown[1]


def document() -> str:
    return (ROOT / "docs" / "api.md").read_text("utf-8")


@pytest.fixture
def perfusion(
    openapi_file: Path, configuration: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Generate a Python client; return the name of its package, which can be imported."""
    (tmp_path / "clients.yml").write_text(configuration)
    programs = str(Path(sys.executable).parent)
    done = subprocess.run(
        [
            f"{programs}/openapi-python-client",
            *("generate", "--path", str(openapi_file), "--config", str(tmp_path / "clients.yml")),
            *("--meta", "none", "--output-path", str(tmp_path / "generated_perfusion")),
            "--fail-on-warning",
        ],
        env={**os.environ, "PATH": os.pathsep.join((programs, os.environ.get("PATH", "")))},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.syspath_prepend(tmp_path)
    return "generated_perfusion"


def test_a_generated_python_client_does_the_main_job(api: Api, perfusion: str) -> None:
    def function(module: str) -> Any:
        return importlib.import_module(f"{perfusion}.api.{module}").sync

    package = importlib.import_module(perfusion)
    models = importlib.import_module(f"{perfusion}.models")
    file = importlib.import_module(f"{perfusion}.types").File
    client = package.AuthenticatedClient(
        base_url=f"http://127.0.0.1:{api.port}",
        token=KEY,
        raise_on_unexpected_status=True,
        timeout=httpx.Timeout(90),
        httpx_args={"trust_env": False},
    )
    form = models.CreateConceptBody(
        images=[file(io.BytesIO(data), f"{n}.png", "image/png") for n, data in enumerate(photos())],
        name="generated",
        superclass="robot",
        crops="[[8, 8, 80, 80], null]",
        training=models.CreateConceptBodyTrainingOptions(max_train_steps=2, train_batch_size=2),
    )
    accepted = function("concepts.create_concept")(client=client, body=form)
    assert accepted.concept.placeholder == "<generated>"
    job = accepted.job
    give_up_at = time.monotonic() + 120
    while job.finished_at is None:
        assert time.monotonic() < give_up_at
        time.sleep(0.2)
        job = function("jobs.get_job")(client=client, id=job.id)
    assert job.status is models.JobStatus.SUCCEEDED, job.error

    asked = models.GenerateRequest(prompt="a <generated:0.7> at night", num_images=2, seed=5)
    answer = function("generation.generate")(client=client, body=asked, prefer="wait=60")
    assert answer.job.status is models.JobStatus.SUCCEEDED
    assert [image.seed for image in answer.job.images] == [5, 6]
    png = function("generation.get_image")(client=client, id=answer.job.images[0].id)
    with Image.open(png.payload) as image:
        assert (image.format, image.size) == (
            "PNG", (answer.job.images[0].width, answer.job.images[0].height)
        )  # fmt: skip

    problem = function("jobs.get_job")(client=client, id="no-such-job")
    assert isinstance(problem, models.Problem)
    assert problem.type_ == "/problems/job-not-found"


@pytest.mark.servers  # needs Node.js, which `make test-integration` installs
def test_a_program_on_the_generated_typescript_compiles(openapi_file: Path, tmp_path: Path) -> None:
    programs = _TYPESCRIPT / "node_modules" / ".bin"
    assert (programs / "tsc").exists(), "openapi-typescript is missing: run `make node`."
    shutil.copy(_TYPESCRIPT / "program.ts", tmp_path)
    generated = tmp_path / "api.ts"
    commands = (
        [programs / "openapi-typescript", openapi_file, "--output", generated],
        [programs / "tsc", "--noEmit", "--strict", tmp_path / "program.ts"],
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
        told = done.stdout + done.stderr
        assert done.returncode == 0, told
        assert "warn" not in told.lower() and "⚠" not in told, told
    for operation in ("generate", "get_job", "list_concepts"):
        assert f"    {operation}: {{" in generated.read_text("utf-8")

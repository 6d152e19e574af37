"""The Dockerfile: linted, lean, and built from nothing but what the images need."""

import re
import subprocess
import tomllib

import pytest

from tests.deployment import stack

DOCKERFILES = sorted((stack.ROOT / "docker").glob("**/*Dockerfile*"))


def stages() -> dict[str, str]:
    """Each stage's instructions, by its name."""
    text = (stack.ROOT / "docker" / "Dockerfile").read_text()
    parts = re.split(r"^FROM \S+ AS (\S+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_hadolint_has_nothing_to_say(file: object) -> None:
    done = subprocess.run(
        [stack.program("hadolint"), "--failure-threshold", "style", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_there_is_something_to_lint() -> None:
    assert DOCKERFILES


def test_torch_is_installed_for_workers_only() -> None:
    assert "device" not in stages()["api-environment"]
    assert "torch" not in stages()["api-environment"]
    assert "--from=api-environment" in stages()["api"]
    assert "--editable '.[device," in stages()["worker-environment"]


@pytest.mark.parametrize("name", ["api", "worker"])
def test_the_images_run_as_nobody_in_particular(name: str) -> None:
    assert re.search(r"^USER 10001:10001$", stages()[name], re.MULTILINE)
    assert "pip install" not in stages()[name] + stages()["runtime"]


def test_every_installation_takes_the_pinned_versions() -> None:
    lines = [line for text in stages().values() for line in text.splitlines() if "pip i" in line]
    assert len(lines) == 3
    assert all("--constraint constraints.txt" in line for line in lines)


def test_the_images_get_every_package_and_nothing_that_is_secret_or_local() -> None:
    project = tomllib.loads((stack.ROOT / "pyproject.toml").read_text())
    found = project["tool"]["setuptools"]["packages"]["find"]["include"]
    lines = (stack.ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    assert {name.removesuffix("*") for name in found} <= allowed
    others = allowed - {name.removesuffix("*") for name in found}
    models = {"models/base", "models/evaluator"}
    assert others == {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"} | models
    assert all((stack.ROOT / name).exists() for name in allowed)

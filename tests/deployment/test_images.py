"""The Dockerfile passes the linter, and its images hold only what they need."""

import re
import subprocess
import tomllib

import pytest

from tests.deployment import stack

DOCKERFILES = sorted((stack.ROOT / "docker").glob("**/*Dockerfile*"))


def stages() -> dict[str, str]:
    """Return each stage's instructions by the stage's name."""
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
    assert "--extra device" in stages()["worker-environment"]
    for name in ("api-environment", "worker-environment"):
        assert "--extra server" in stages()[name]


@pytest.mark.parametrize("name", ["api", "worker"])
def test_the_images_run_as_an_unprivileged_user(name: str) -> None:
    assert re.search(r"^USER 10001:10001$", stages()[name], re.MULTILINE)
    assert "pip install" not in stages()[name] + stages()["runtime"]


def test_every_installation_takes_files_that_are_known_by_their_hashes() -> None:
    lines = re.findall(r"pip install (.*?)(?: \\)?$", "".join(stages().values()), re.MULTILINE)
    assert len(lines) == 3
    assert lines.count("--no-deps --no-build-isolation --editable .") == 1  # the project itself
    for line in lines:
        assert line.startswith(("--require-hashes --requirement ", "--no-deps ")), line


def test_the_wheel_from_another_index_is_named_by_a_build_argument_that_compose_passes_on() -> None:
    for name in ("TORCH_SHA256", "TORCH_INDEX_URL"):
        assert f'ARG {name}=""\n' in stages()["worker-environment"]
        option = "--" + name.lower().replace("_", "-")
        assert f'{option} "${name}"' in stages()["worker-environment"]
        args = stack.raw()["services"]["worker-train-cpu"]["build"]["args"]
        assert args[name] == f"${{{name}:-}}"


def test_no_layer_of_an_image_holds_what_a_later_one_removes_or_repeats() -> None:
    """If a RUN removes files or changes their owner, the layer below still holds them."""
    for name in ("api", "worker"):
        assert "RUN" not in stages()[name]
        assert "--chown" not in stages()[name]
    copied = re.findall(r"^COPY (.*)$", stages()["api"], re.MULTILINE)
    assert all(line.startswith("--from=") for line in copied)
    assert "RUN rm -r docker models" in stages()["code"]
    assert re.findall(r"^COPY (?!--from)(.*)$", stages()["worker"], re.MULTILINE) == [
        "models models"
    ]


def test_the_images_get_every_package_and_nothing_that_is_secret_or_local() -> None:
    project = tomllib.loads((stack.ROOT / "pyproject.toml").read_text())
    found = project["tool"]["setuptools"]["packages"]["find"]["include"]
    lines = (stack.ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    packages = {name.removesuffix("*") for name in found}
    assert packages - {"models"} <= allowed
    others = allowed - packages
    installation = {"pyproject.toml", "requirements.lock", "docker/select_locked.py"}
    models = {"models/__init__.py", "models/base", "models/evaluator", "models/families"}
    assert others == installation | {"README.md", "LICENSE"} | models
    assert all((stack.ROOT / name).exists() for name in allowed)

"""CI, hooks, the dev container and CONTRIBUTING.md name commands and files that exist."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deployment import stack

WORKFLOW = stack.ROOT / ".github" / "workflows" / "ci.yml"
SCRIPTS = sorted((stack.ROOT / "docker").glob("*.sh"))
TARGETS = set(re.findall(r"^([a-z-]+):", (stack.ROOT / "Makefile").read_text(), re.MULTILINE))


def test_ci_runs_the_projects_own_script_on_the_whole_history_and_the_composed_stack() -> None:
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    checks = jobs["checks"]["steps"]
    (checkout,) = [step for step in checks if step.get("uses", "").startswith("actions/checkout@")]
    assert checkout["with"]["fetch-depth"] == 0
    assert checks[-1]["run"] == "bash .ci/run"
    assert jobs["compose"]["steps"][-1]["run"] == "sh docker/smoke.sh"
    assert (stack.ROOT / ".ci" / "run").exists()
    targets = re.findall(r"^make (\S+)", (stack.ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert targets and set(targets) <= TARGETS


def test_every_hook_is_a_program_of_the_environment_and_fetches_nothing() -> None:
    config = yaml.safe_load((stack.ROOT / ".pre-commit-config.yaml").read_text())
    (hooks,) = [repository["hooks"] for repository in config["repos"]]
    assert config["repos"][0]["repo"] == "local"
    for hook in hooks:
        assert hook["language"] == "system"
        program, *_ = hook["entry"].split()
        assert stack.program(program.removeprefix(".venv/bin/")).exists()


def test_the_dev_container_makes_what_the_makefile_offers() -> None:
    container = json.loads((stack.ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert container["postCreateCommand"].removeprefix("make ") in TARGETS
    assert re.search(r"python:3\.11", container["image"])


def test_contributing_names_targets_and_files_that_exist() -> None:
    text = (stack.ROOT / "CONTRIBUTING.md").read_text()
    targets = set(re.findall(r"\bmake ([a-z-]+)", text))
    assert {"setup", "check", "test-fast", "test"} <= targets <= TARGETS
    paths = re.findall(r"`((?:docs|docker|tests|service|migrations)/[\w./-]+)`", text)
    assert len(paths) >= 5
    assert [path for path in paths if not (stack.ROOT / path).exists()] == []
    lines = (stack.ROOT / "tests" / "house" / "test_rules.py").read_text()
    (most,) = re.findall(r"has more than (\d+) lines; a file", text)
    assert f"lines > {most}" in lines


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_shell_script_is_read_without_an_error(script: Path) -> None:
    done = subprocess.run(["sh", "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_smoke_test_tells_what_failed_and_cleans_up_after_it(tmp_path: Path) -> None:
    """With an engine that refuses to build: everything around it is real."""
    engine = tmp_path / "docker"
    log = tmp_path / "log"
    engine.write_text(f'#!/bin/sh\necho "$*" >>{log}\ncase "$*" in *" build") exit 7 ;; esac\n')
    engine.chmod(0o755)
    done = subprocess.run(
        ["sh", stack.ROOT / "docker" / "smoke.sh"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7, done.stderr
    asked = [line.split("--env-file ")[1].split(" ", 1)[1] for line in log.read_text().splitlines()]
    assert [words.split()[0] for words in asked] == ["config", "build", "ps", "logs", "down"]
    assert asked[-1] == "down --volumes --timeout 60"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["docker", "log"]

"""docker-compose.yml as Compose itself reads it, and the variables of the file.

`docker-compose config` is the real program, from a package, and needs no engine. It checks the file
against the Compose specification's schema before it prints what it understood.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
EXAMPLE = ROOT / "docker" / "env.example"

Service = dict[str, Any]


class Refused(Exception):
    """Compose refuses the file; the message is that of Compose."""


def program(name: str) -> Path:
    """Return a program of the `test` extra."""
    found = Path(sys.executable).parent / name
    if not found.exists():
        raise RuntimeError(f"{name} is missing: pip install -e '.[test]'")
    return found


def make_env(folder: Path) -> Path:
    """Run the one line that makes `.env` with strong secrets; return the file."""
    file = folder / ".env"
    subprocess.run(["sh", ROOT / "docker" / "make-env.sh", file], check=True)
    return file


def resolve(
    env_file: Path, *, files: Sequence[Path] = (FILE,), profiles: Sequence[str] = ("*",)
) -> dict[str, Service]:
    """Return every service, with variables, anchors and defaults filled in."""
    chosen: list[str | Path] = [word for name in profiles for word in ("--profile", name)]
    chosen += [word for file in files for word in ("--file", file)]
    done = subprocess.run(
        [
            *(program("docker-compose"), "--project-directory", ROOT),
            *("--env-file", env_file, *chosen, "config", "--format", "json"),
        ],
        env={"PATH": os.environ["PATH"], "HOME": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Refused(done.stderr)
    services: dict[str, Service] = json.loads(done.stdout)["services"]
    return services


def raw() -> dict[str, Any]:
    """Return the file as it is written."""
    content: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return content


def variables_of_the_file() -> set[str]:
    """Return the names in `${NAME...}`, and of environment entries without a value."""
    passed_on = {
        name
        for service in raw()["services"].values()
        for name, value in (service.get("environment") or {}).items()
        if value is None
    }
    return set(re.findall(r"\$\{(\w+)", _text())) | passed_on


def variables_of_the_example() -> dict[str, str]:
    """Return the variables of env.example with their values, whether commented out or not."""
    found = re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE)
    return dict(found)


def required() -> set[str]:
    """Return the variables without which Compose refuses the file."""
    return set(re.findall(r"\$\{(\w+):\?", _text()))


def _text() -> str:
    """Return the file without `$$`, which is a `$` of the container's shell."""
    return FILE.read_text().replace("$${", "")

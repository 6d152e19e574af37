"""The wheel holds all that the product needs, and runs without the repository.

The wheel is built from the files that git tracks, with the lock's build tools, without network. The
new environment holds only the wheel, and finds the dependencies where they are installed here.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
from PIL import Image

from tests.deployment import stack

PACKAGES = ("api", "worker", "service", "perfusion_core", "migrations", "models")
QUICK = {"train": {"max_train_steps": 2}, "generate": {"num_inference_steps": 2}}
WHAT_IS_INSTALLED = """
import api, models
from perfusion_core.evaluators.similarity import Evaluator
print(api.__file__)
print(models.folder())
print(Evaluator(models.folder() / "evaluator").ref.name)
"""

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]


def run(*words: str | Path, cwd: Path) -> str:
    """Run a command without this process's paths into the repository; return its output."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PERFUSION_", "PYTHON"))}
    done = subprocess.run(
        [*map(str, words)], cwd=cwd, env=kept, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the project's wheel in a folder that holds tracked files alone; return the wheel."""
    source = tmp_path_factory.mktemp("source")
    parts = ("pyproject.toml", "README.md", "LICENSE", *PACKAGES)
    files = run("git", "ls-files", "-z", "--", *parts, cwd=stack.ROOT).split("\0")
    for name in filter(None, files):
        copy = source / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((stack.ROOT / name).read_bytes())
    built = tmp_path_factory.mktemp("built")
    build = ("wheel", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", built)
    run(sys.executable, "-m", "pip", *build, source, cwd=source)
    (file,) = built.iterdir()
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel in an environment outside the repository; return its folder of packages."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "venv", with_pip=False)
    (packages,) = (folder / "venv").glob("lib/python3*/site-packages")
    pip = (sys.executable, "-m", "pip", "--python", folder / "venv" / "bin" / "python")
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    # A .pth file in these folders, which is how the repository is installed for development, is not
    # followed from here.
    folders = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages / "dependencies.pth").write_text("\n".join(folders))
    return packages


def test_the_wheel_holds_the_models_and_whatever_else_is_no_module(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    folders = ("models/base", "models/evaluator", "models/families")
    tracked = run("git", "ls-files", "--", *folders, cwd=stack.ROOT)
    assert len(tracked.split()) > 18
    assert set(tracked.split()) <= names
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert {"api/web/index.html", "migrations/script.py.mako", "api/demo/art/robot.png"} <= names
    assert "api/web/docs/vendor/swagger-ui-bundle.js.gz" in names
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == set(PACKAGES)
    assert not [name for name in names if name.startswith("models/maker")]


def test_the_wheel_says_what_it_is_and_which_extras_it_has(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    told = HeaderParser().parsestr(archive.read(name).decode())
    assert told["License-Expression"] == "Apache-2.0"
    assert {"device", "gpu", "server", "tracing"} <= set(told.get_all("Provides-Extra", []))
    assert "Typing :: Typed" in told.get_all("Classifier", [])
    assert not re.search(r"example\.(com|org)|TODO", str(told.get_all("Project-URL")))


def test_an_installed_wheel_runs_the_demo_far_from_the_repository(
    installed: Path, tmp_path: Path
) -> None:
    programs = installed.parents[2] / "bin"
    told = run(programs / "python", "-c", WHAT_IS_INSTALLED, cwd=tmp_path)
    api, models, evaluator = told.split()
    assert Path(api) == installed / "api" / "__init__.py"
    assert Path(models) == (installed / "models").resolve()
    assert evaluator == "evaluator"
    # The demo goes without its evaluator, because judging two concepts takes a minute.
    shutil.rmtree(installed / "models" / "evaluator")
    # The shipped model, found as for every user; two steps of each kind keep the test short.
    (installed / "models" / "base" / "perfusion.json").write_text(json.dumps(QUICK))
    run(programs / "perfusion", "demo", cwd=tmp_path)
    with Image.open(tmp_path / "demo" / "contact-sheet.png") as sheet:
        sheet.load()
        assert sheet.format == "PNG"
        assert sheet.width > 500 and sheet.height > 500
    assert len(list((tmp_path / "demo").glob("*.png"))) == 23

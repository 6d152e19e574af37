"""What the documents say of the code is checked, or it is no rule."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("api", "worker", "service", "perfusion_core")


def test_every_equation_names_a_function_and_a_test_that_exist() -> None:
    paper = (ROOT / "docs" / "paper.md").read_text()
    tests = "\n".join(file.read_text() for file in (ROOT / "tests" / "unit").rglob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", paper)
    assert len(named) >= 8
    assert [name for name in named if f"def {name}(" not in tests] == []
    modules = {file.stem: file for file in (ROOT / "perfusion_core").rglob("*.py")}
    functions = [pair for pair in re.findall(r"`(\w+)\.(\w+)`", paper) if pair[0] in modules]
    assert len(functions) >= 5
    for module, name in functions:
        source = modules[module].read_text()
        assert re.search(rf"(def|class) {name}\b", source), f"{module}.{name}"


def test_every_path_that_the_map_names_exists() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text() + (ROOT / "README.md").read_text()
    paths = re.findall(r"`((?:api|worker|service|perfusion_core|docs|models)/[\w./]+)`", text)
    paths += re.findall(r"\]\((?!http)([\w./]+)\)", text)
    assert len(paths) > 15
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_is_longer_than_a_reader_can_hold(package: str) -> None:
    lengths = {
        str(file.relative_to(ROOT)): len(file.read_text().splitlines())
        for file in (ROOT / package).rglob("*.py")
    }
    assert {name: lines for name, lines in lengths.items() if lines > 310} == {}


def test_the_api_reads_prompts_and_concept_files_without_torch() -> None:
    """An API container installs no torch; importing it must not be needed."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import perfusion_core, perfusion_core.concept, perfusion_core.text.prompt\n"
        "import api.app, service.wiring"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

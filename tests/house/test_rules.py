"""The documents' statements about the code are true."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("api", "worker", "service", "perfusion_core")
DOCUMENTS = sorted(
    str(file.relative_to(ROOT))
    for folder in (
        ".",
        "docs",
        "docs/decisions",
        "models",
        "models/base",
        "models/evaluator",
        "models/families",
    )
    for file in (ROOT / folder).glob("*.md")
)


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


def test_make_reads_every_folder_with_tests_of_servers() -> None:
    (folders,) = re.findall(r"addprefix tests/,([\w ]+)\)", (ROOT / "Makefile").read_text())
    tests = ROOT / "tests"
    marked = {
        file.relative_to(tests).parts[0]
        for file in tests.rglob("test_*.py")
        if re.search(r"^(@|pytestmark.*)pytest\.mark\.servers", file.read_text(), re.MULTILINE)
    }
    assert marked == set(folders.split())


def test_every_path_that_the_map_names_exists() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text() + (ROOT / "README.md").read_text()
    paths = re.findall(r"`((?:api|worker|service|perfusion_core|docs|models)/[\w./]+)`", text)
    paths += re.findall(r"\]\((?!http)([\w./]+)\)", text)
    assert len(paths) > 15
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_of_a_document_leads_somewhere(document: str) -> None:
    file = ROOT / document
    for target, heading in re.findall(r"\]\((?!http)([^)#\s]*)#?([^)\s]*)\)", file.read_text()):
        page = file.parent / target if target else file
        assert page.exists(), target
        assert not heading or heading in anchors_of(page), f"{target}#{heading}"


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 900


def test_every_document_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    files = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "decisions").glob("*.md")]
    names = {str(file.relative_to(ROOT / "docs")) for file in files} - {"README.md"}
    assert [name for name in sorted(names) if f"]({name})" not in index] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_is_longer_than_a_reader_can_hold(package: str) -> None:
    lengths = {
        str(file.relative_to(ROOT)): len(file.read_text().splitlines())
        for file in (ROOT / package).rglob("*.py")
    }
    assert {name: lines for name, lines in lengths.items() if lines > 310} == {}


def test_the_api_reads_prompts_and_concept_files_without_torch() -> None:
    """An API container installs no torch, so the API must not import it."""
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

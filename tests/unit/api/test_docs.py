"""The documents name every problem, setting and route, and no others."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfusion_core import errors as core_errors
from service import errors as service_errors
from service.settings.environment import Settings, variable_of
from worker import errors as worker_errors

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
_GIVE_A_SLUG = {"problem", "make_problem"} | {
    name
    for name, kind in vars(service_errors).items()
    if isinstance(kind, type) and issubclass(kind, service_errors.ServiceError)
} - {"Invalid"}


def headings(file: str, level: int) -> list[str]:
    pattern = rf"^{'#' * level} `?([^`\n]+?)`?$"
    return re.findall(pattern, (DOCS / file).read_text("utf-8"), re.MULTILINE)


def slugs_in(source: Path) -> Iterator[str]:
    """Yield the slugs that a file gives to errors and problems as literals."""
    tree = ast.parse(source.read_text("utf-8"))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = getattr(node.func, "id", getattr(node.func, "attr", ""))
        first = node.args[:1] if called in _GIVE_A_SLUG else []
        named = [word.value for word in node.keywords if word.arg == "slug"]
        for value in (*first, *named):
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.value


def kebab(name: str) -> str:
    words = re.findall(r"[A-Z][a-z0-9]*", name.removesuffix("Error"))
    return "-".join(word.lower() for word in words)


def leaves(module: object, root: type[Exception]) -> set[str]:
    """Return the slugs of a failed job's problem, which come from the names of error classes."""
    return {
        kebab(name)
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, root) and kind is not root
    }


def every_slug() -> set[str]:
    slugs = {"invalid"}
    for package in ("api", "service", "worker"):
        for source in (ROOT / package).rglob("*.py"):
            slugs.update(slugs_in(source))
    framework = re.findall(
        r'^    \d{3}: \("([a-z-]+)"', (ROOT / "api/problems.py").read_text("utf-8"), re.MULTILINE
    )
    assert framework
    slugs.update(framework)
    slugs |= leaves(core_errors, core_errors.PerfusionError)
    slugs |= leaves(worker_errors, worker_errors.WorkerError)
    return slugs


def test_every_kind_of_problem_has_a_heading_and_no_heading_is_left_over() -> None:
    documented = headings("errors.md", 3)
    assert len(documented) == len(set(documented))
    assert set(documented) == every_slug()


def test_every_setting_has_a_heading_and_no_heading_is_left_over() -> None:
    assert sorted(headings("settings.md", 3)) == sorted(map(variable_of, Settings.model_fields))


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_the_default_of_a_setting_is_told(name: str) -> None:
    text = (DOCS / "settings.md").read_text("utf-8")
    section = text.split(f"### `{variable_of(name)}`\n")[1].split("\n#")[0]
    assert re.search(r"^Default: .+", section, re.MULTILINE), name
    default = Settings.model_fields[name].default
    if isinstance(default, (int, float)) and not isinstance(default, bool):
        assert f"{default:g}" in section or str(default) in section


def test_every_route_is_described(every_path: set[str]) -> None:
    text = (DOCS / "api.md").read_text("utf-8")
    for path in every_path:
        assert f"`{path}`" in text or f" {path}`" in text, path


@pytest.fixture
def every_path() -> set[str]:
    from api.app import create_app
    from service import wiring

    service = wiring.build(Settings.model_validate({"database_url": "sqlite:///:memory:"}))
    app = create_app(service, embedded=False)
    service.close()
    return set(app.openapi()["paths"])

"""The dashboard, Prometheus' configuration and docs/operations.md agree with the product."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import migrations
from api.metrics import Metrics
from service import wiring
from service.settings.environment import load
from tests.deployment import stack

DASHBOARD = stack.ROOT / "docker" / "grafana" / "dashboards" / "perfusion.json"
PROVISIONING = stack.ROOT / "docker" / "grafana" / "provisioning"
OPERATIONS = stack.ROOT / "docs" / "operations.md"
_LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return the names of all series that /metrics shows."""
    folder = tmp_path_factory.mktemp("metrics")
    settings = load({"PERFUSION_DATA_DIR": str(folder)})
    migrations.upgrade(settings.database_url)
    service = wiring.build(settings)
    try:
        text = Metrics(service).render().decode()
    finally:
        service.close()
    return {
        name
        for name in re.findall(r"^# TYPE (\w+) \w+$", text, re.MULTILINE)
        if not name.endswith("_created")  # the client library adds it: when a series began
    }


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def base_names(text: str) -> set[str]:
    """Return the metrics that a text names; a histogram's series count as the histogram."""
    names = set(re.findall(r"perfusion_\w+", text)) - {"perfusion_core"}
    return {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in names}


def log_events() -> Iterator[str]:
    """Return the event name of every line that the product logs."""
    for package in ("api", "service", "worker", "perfusion_core"):
        for file in (stack.ROOT / package).rglob("*.py"):
            yield from _events_of(ast.parse(file.read_text()))


def _events_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        named = node.func
        by_level = isinstance(named, ast.Attribute) and named.attr in _LEVELS
        is_log = by_level and ast.unparse(named).split(".")[0] in ("log", "_log")
        is_log = is_log or (isinstance(named, ast.Name) and named.id == "write")
        first = node.args[0]
        # A line of the core that is a sentence explains itself.
        if is_log and isinstance(first, ast.Constant) and re.fullmatch(r"[\w.]+", str(first.value)):
            yield first.value


def table_under(heading: str) -> set[str]:
    """Return the first column's names of the table under a heading of docs/operations.md."""
    section = OPERATIONS.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([\w.]+)", row)}


def test_every_metric_of_the_dashboard_is_exported(exported: set[str]) -> None:
    used = base_names(" ".join(expressions()))
    assert len(used) >= 6
    assert used <= exported


def test_every_panel_asks_the_data_source_that_is_provisioned() -> None:
    (source,) = yaml.safe_load((PROVISIONING / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert {panel["datasource"]["uid"] for panel in panels()} == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_the_dashboard_lies_where_grafana_looks() -> None:
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards/perfusion.yml").read_text())[
        "providers"
    ]
    mounted = {
        target: source
        for volume in stack.raw()["services"]["grafana"]["volumes"]
        for source, target in [volume.split(":")[:2]]
    }
    source = mounted[provider["options"]["path"]]
    assert (stack.ROOT / source / DASHBOARD.name).samefile(DASHBOARD)
    environment = stack.raw()["services"]["grafana"]["environment"]
    home = Path(environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home == Path(provider["options"]["path"]) / DASHBOARD.name


def test_prometheus_asks_the_api_where_it_listens(tmp_path: Path) -> None:
    config = yaml.safe_load((stack.ROOT / "docker" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    api = stack.resolve(stack.make_env(tmp_path))[found["names"][0]]
    assert str(found["port"]) in api["command"]
    assert 'job="perfusion"' in " ".join(expressions())
    assert job["job_name"] == "perfusion"


def test_the_operators_page_explains_every_metric_and_no_other(exported: set[str]) -> None:
    assert table_under("Metrics") == exported


def test_the_operators_page_explains_every_log_line_and_no_other() -> None:
    assert table_under("Log lines") == set(log_events())

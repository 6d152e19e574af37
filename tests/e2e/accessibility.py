"""What is wrong with the page for people who hear it, or see it badly: axe, names, outline."""

import gzip
import itertools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

_AXE = Path(__file__).with_name("vendor") / "axe.min.js.gz"
_DESKTOP, _PHONE = (1440, 900), (390, 844)
# Colours change with the scheme alone, and everything else with the size alone.
_COLOURS = "{resultTypes: ['violations'], runOnly: ['color-contrast']}"
# The prompt's role is meant.
_EVERYTHING = "{resultTypes: ['violations'], rules: {'aria-allowed-role': {enabled: false}}}"
_LOOKS = (
    (_DESKTOP, "light", _EVERYTHING),
    (_DESKTOP, "dark", _COLOURS),
    (_PHONE, "dark", _EVERYTHING),
    (_PHONE, "light", _COLOURS),
)
_CONTROLS = {
    "DisclosureTriangle", "application", "button", "checkbox", "combobox", "link", "searchbox",
    "slider", "spinbutton", "textbox",
}  # fmt: skip
_GROUPS = {
    "complementary", "dialog", "form", "group", "list", "navigation", "region", "search", "table",
}  # fmt: skip
_MUST_BE_NAMED = {"complementary", "dialog", "navigation", "region"}


def violations(page: Page) -> list[str]:
    """Return what axe finds at both sizes, light and dark; the page is as before afterwards."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(gzip.decompress(_AXE.read_bytes()).decode())
    wrong = []
    for (width, height), scheme, rules in (*_LOOKS, (_DESKTOP, "light", None)):
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        found = page.evaluate(f"axe.run({rules}).then((all) => all.violations)") if rules else []
        wrong += [
            f"{width} px, {scheme}, {violation['id']}: {node['target']}"
            for violation in found
            for node in violation["nodes"]
        ]
    return wrong


@dataclass(frozen=True)
class _Heard:
    """Something of the accessibility tree: its role, its name, and the groups around it."""

    role: str
    name: str
    level: int
    groups: tuple[str, ...]


def misheard(page: Page) -> list[str]:
    """Return what makes no sense read aloud: controls without or with the same name, no outline."""
    heard = _heard(page)
    controls = [each for each in heard if each.role in _CONTROLS]
    wrong = [f"{each.role} without a name in {each.groups}" for each in controls if not each.name]
    named = Counter((each.groups, each.role, each.name) for each in controls)
    wrong += [f"{times} times {control}" for control, times in named.items() if times > 1]
    wrong += [
        f"{each.role} without a name"
        for each in heard
        if each.role in _MUST_BE_NAMED and not each.name
    ]
    # A dialog is all that is heard while it is open.
    if any(each.role == "dialog" for each in heard):
        return wrong
    roles = Counter(each.role for each in heard)
    wrong += [f"{roles[role]} times {role}" for role in ("banner", "main") if roles[role] != 1]
    levels = [each.level for each in heard if each.role == "heading"]
    if levels[:1] != [1] or levels.count(1) != 1:
        wrong.append(f"the headings do not begin with the only one of level 1: {levels}")
    if any(after > before + 1 for before, after in itertools.pairwise(levels)):
        wrong.append(f"the headings leave a level out: {levels}")
    return wrong


def _heard(page: Page) -> list[_Heard]:
    """Return what a screen reader is told, in its order."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    by_id = {node["nodeId"]: node for node in nodes}
    found: list[_Heard] = []

    def read(node: dict[str, Any], groups: tuple[str, ...]) -> None:
        role = node.get("role", {}).get("value", "")
        name = node.get("name", {}).get("value", "").strip()
        if not node.get("ignored"):
            properties = {each["name"]: each["value"] for each in node.get("properties", [])}
            level = int(properties.get("level", {}).get("value", 0))
            found.append(_Heard(role, name, level, groups))
            if role in _GROUPS and name:
                groups = (*groups, name)
        for child in node.get("childIds", []):
            if child in by_id:
                read(by_id[child], groups)

    read(nodes[0], ())
    return found

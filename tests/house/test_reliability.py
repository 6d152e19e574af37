"""Every test that docs/reliability.md names exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_outcome_names_a_test_that_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "reliability.md").read_text()))
    files = (ROOT / "tests").rglob("test_*.py")
    there = set(re.findall(r"def (test_\w+)\(", "\n".join(file.read_text() for file in files)))
    assert len(named) > 50
    assert named - there == set()

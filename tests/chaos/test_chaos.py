"""An accepted job ends exactly once, visibly, whatever dies. Seeds decide what dies, and when."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.faults import FAULTS

pytestmark = pytest.mark.servers
ROOT = Path(__file__).parents[2]
JOBS = 60
# Each has servers and processes of its own, and spends most of its time waiting for faults to pass.
_AT_ONCE = 3


def chaos(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-6000:]
    report: dict[str, Any] = json.loads(done.stdout)
    print(json.dumps(report))
    return report


@pytest.mark.timeout(1200)
def test_nothing_accepted_is_lost_or_doubled(pytestconfig: pytest.Config) -> None:
    seeds = range(1, 1 + pytestconfig.getoption("chaos_seeds"))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        reports = list(pool.map(lambda seed: chaos(str(seed), "--jobs", str(JOBS)), seeds))
    assert {report["seed"]: report["violations"] for report in reports} == {
        seed: [] for seed in seeds
    }
    for report in reports:
        assert report["jobs"] == JOBS
        assert all(report["faults"][fault.__name__] >= 2 for fault in FAULTS)
        assert report["repeated"] >= 2
        assert report["cancelled"] >= 2
        assert report["rerun"] >= 2


@pytest.mark.timeout(900)
def test_without_the_lease_token_the_same_checks_object() -> None:
    # A zombie may happen to wake with nothing left to spoil; that one never does is unthinkable.
    assert any(doubled(chaos(str(seed), "--mutant", "--jobs", "48")) for seed in (1, 2, 3))


def doubled(report: dict[str, Any]) -> bool:
    assert report["faults"] == {"wake_a_zombie": 4}
    return any("were told of success" in sentence for sentence in report["violations"])

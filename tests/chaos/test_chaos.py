"""An accepted job ends exactly once, visibly, whatever dies. Seeds decide what dies, and when."""

import json
from typing import Any

import pytest

from tests.chaos import embedded_faults, faults
from tests.chaos.campaign import run_all, run_one

pytestmark = pytest.mark.servers
JOBS = 60


@pytest.mark.timeout(1200)
def test_nothing_accepted_is_lost_or_doubled(pytestconfig: pytest.Config) -> None:
    seeds = range(1, 1 + pytestconfig.getoption("chaos_seeds"))
    for report in run_all([[str(seed), "--jobs", str(JOBS)] for seed in seeds]):
        assert_nothing_broke(report, every=faults.FAULTS)
        assert report["answers_lost"] >= 2


@pytest.mark.timeout(900)
def test_nothing_is_lost_or_doubled_by_one_process_on_sqlite() -> None:
    scene = ["--scene", "sqlite", "--jobs", str(JOBS)]
    for report in run_all([["1", *scene], ["2", *scene, "--blobs-url", "sql:"]]):
        assert_nothing_broke(report, every=embedded_faults.FAULTS)


@pytest.mark.timeout(900)
def test_a_result_stays_though_half_of_the_answers_to_commits_are_lost() -> None:
    report = run_one(["1", "--scene", "lost-answers", "--share", "0.5", "--jobs", str(JOBS)])
    assert_nothing_broke(report, every=())
    assert 0.4 < report["answers_lost"] / report["commits"] < 0.6


@pytest.mark.timeout(900)
def test_without_the_lease_token_the_same_checks_object() -> None:
    # A zombie may happen to wake with nothing left to spoil; that one never does is unthinkable.
    assert any(
        doubled(run_one([str(seed), "--scene", "mutant", "--jobs", "48"])) for seed in (1, 2, 3)
    )


def assert_nothing_broke(report: dict[str, Any], *, every: tuple[Any, ...]) -> None:
    print(json.dumps(report))
    assert not any(report["violations"].values()), report["violations"]
    assert report["jobs"] == JOBS
    assert all(report["faults"][fault.__name__] >= 2 for fault in every)
    assert report["repeated"] >= 2
    assert report["cancelled"] >= 2
    assert report["rerun"] >= 2


def doubled(report: dict[str, Any]) -> bool:
    assert report["faults"] == {"wake_a_zombie": 4}
    return any("were told of success" in sentence for sentence in report["violations"]["doubled"])

"""An accepted job ends exactly once and visibly, whatever fails. A seed decides the faults.

Here each fault occurs once and meets a few jobs, twice in one process, which ends its jobs quickly;
`make chaos` runs more seeds of twice the length.
"""

import json
from typing import Any

import pytest

from tests.chaos import embedded_faults, faults
from tests.chaos.campaign import run_all, run_chaos

pytestmark = [pytest.mark.servers, pytest.mark.timeout(1200)]
JOBS = 30
ROUNDS = 1
Report = dict[str, Any]
_SQLITE = ["--scene", "sqlite", "--jobs", str(2 * JOBS), "--rounds", str(2 * ROUNDS)]
_HALF_LOST = ["--scene", "lost-answers", "--share", "0.5"]
_MUTANT = ["--scene", "mutant"]


@pytest.fixture(scope="module")
def reports(pytestconfig: pytest.Config) -> dict[str, list[Report]]:
    """Return the reports of all runs, which run at once, as each mostly waits for its faults."""
    seeds = range(1, 1 + pytestconfig.getoption("chaos_seeds"))
    runs = {
        "postgres": [[str(seed)] for seed in seeds],
        "sqlite": [["1", *_SQLITE], ["2", *_SQLITE, "--blobs-url", "sql:"]],
        "half lost": [["1", *_HALF_LOST]],
        "mutant": [["1", *_MUTANT]],
    }
    size = ["--jobs", str(JOBS), "--rounds", str(ROUNDS)]
    done = run_all([[*size, *run] for scene in runs.values() for run in scene])
    return {name: [next(done) for _ in scene] for name, scene in runs.items()}


def test_nothing_accepted_is_lost_or_doubled(reports: dict[str, list[Report]]) -> None:
    for report in reports["postgres"]:
        assert_nothing_broke(report, every=faults.FAULTS)
        assert report["answers_lost"] >= 2


def test_nothing_is_lost_or_doubled_by_one_process_on_sqlite(
    reports: dict[str, list[Report]],
) -> None:
    for report in reports["sqlite"]:
        assert_nothing_broke(report, every=embedded_faults.FAULTS, times=2)


def test_a_result_stays_though_half_of_the_answers_to_commits_are_lost(
    reports: dict[str, list[Report]],
) -> None:
    (report,) = reports["half lost"]
    assert_nothing_broke(report, every=())
    assert 0.4 < report["answers_lost"] / report["commits"] < 0.6


def test_without_the_lease_token_the_same_checks_object(reports: dict[str, list[Report]]) -> None:
    # A single zombie may wake with nothing left to spoil, but not all zombies of several runs.
    (first,) = reports["mutant"]
    assert doubled(first) or any(doubled(run_chaos([seed, *_MUTANT])) for seed in ("2", "3"))


def assert_nothing_broke(report: Report, *, every: tuple[Any, ...], times: int = 1) -> None:
    print(json.dumps(report))
    assert not any(report["violations"].values()), report["violations"]
    assert report["jobs"] == times * JOBS
    assert all(report["faults"][fault.__name__] == times * ROUNDS for fault in every)
    assert report["repeated"] >= 2
    assert report["webhook_repeats"] >= 2
    # If the 202 of a cancellation is lost, its client asks again, and the answer is 409.
    assert (report["cancelled"] if every else report["ends"]["cancelled"]) >= 2
    # A lost answer alone sends no job back to the queue.
    assert report["rerun"] >= 2 or not every


def doubled(report: Report) -> bool:
    assert report["faults"] == {"wake_a_zombie": 4}
    return any("were told of success" in sentence for sentence in report["violations"]["doubled"])

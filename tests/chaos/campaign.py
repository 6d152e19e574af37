"""Many runs of chaos, each in a process with its own servers, and one table of their findings.

`python -m tests.chaos.campaign seeds --postgres 6 --sqlite 3` uses new random seeds.
`python -m tests.chaos.campaign lost-answers` loses 10, 20 and 50 % of the answers to commits. The
exit code is 1 if a promise was broken.
"""

import argparse
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_TIMEOUT_SECONDS = 900
# A run mostly waits for faults to pass.
_AT_ONCE = 3
_STORING_SCENES = ("postgres", "sqlite")
_SHARES = (0.1, 0.2, 0.5)
_KINDS = "lost doubled ends destroyed orphans webhooks".split()
_HEADINGS = ["scene", "seed", "jobs", *_KINDS, "other", "answers_lost", "hook_repeats"]


def run_all(runs: Iterable[list[str]]) -> Iterator[dict[str, Any]]:
    """Run chaos with each list of arguments, a few at once; yield the reports in order."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(run_chaos, runs)


def run_chaos(arguments: list[str]) -> dict[str, Any]:
    """Run chaos once in another process, and return its report."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=_TIMEOUT_SECONDS,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        # A run that could not check anything counts as a broken promise; the other runs continue.
        sentence = f"chaos {' '.join(arguments)} ended without a report:\n{done.stderr[-6000:]}"
        return _empty_report(arguments) | {"violations": {"run": [sentence]}}
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _empty_report(arguments: list[str]) -> dict[str, Any]:
    return {
        "seed": int(arguments[0]),
        "jobs": 0,
        "faults": {},
        "commits": 0,
        "answers_lost": 0,
        "webhook_repeats": 0,
    }


def main() -> int:
    """Run what the command line asks for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["seeds", "lost-answers"])
    parser.add_argument("--postgres", type=int, default=6, help="seeds on PostgreSQL")
    parser.add_argument("--sqlite", type=int, default=3, help="seeds on SQLite in one process")
    parser.add_argument("--first", type=int, help="the first seed; otherwise a random one")
    parser.add_argument("--jobs", type=int)
    options = parser.parse_args()
    first = options.first or random.SystemRandom().randrange(1000, 1_000_000)
    if options.what == "seeds":
        jobs = ["--jobs", str(options.jobs or 60)]
        scenes = ["postgres"] * options.postgres + ["sqlite"] * options.sqlite
        more = [["--scene", scene, *jobs] for scene in scenes]
        # And one run of each with the blobs in the database.
        more += [["--scene", scene, *jobs, "--blobs-url", "sql:"] for scene in _STORING_SCENES]
    else:
        jobs = str(options.jobs or 150)
        more = [
            ["--scene", "lost-answers", "--share", str(share), "--jobs", jobs] for share in _SHARES
        ]
    runs = [[str(first + n), *arguments] for n, arguments in enumerate(more)]
    print("".join(f"{heading:>14}" for heading in _HEADINGS), flush=True)
    broken = 0
    for arguments, report in zip(runs, run_all(runs), strict=True):
        found = Counter({kind: len(said) for kind, said in report["violations"].items()})
        broken += sum(found.values())
        _print_row(arguments, report, found)
    return 1 if broken else 0


def _print_row(arguments: list[str], report: dict[str, Any], found: Counter[str]) -> None:
    scene = arguments[2] if "--share" not in arguments else f"{float(arguments[4]):.0%} lost"
    scene += " sql:" * ("--blobs-url" in arguments)
    other = found["clients"] + found["processes"] + found["run"]
    kinds = [found[kind] for kind in _KINDS]
    cells = [scene, report["seed"], report["jobs"], *kinds, other]
    cells += [report["answers_lost"], report["webhook_repeats"]]
    print("".join(f"{cell!s:>14}" for cell in cells), flush=True)
    for sentences in report["violations"].values():
        for sentence in sentences:
            print(f"  {sentence}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

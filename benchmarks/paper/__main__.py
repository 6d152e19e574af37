"""The paper's comparison on the shipped base model.

    python -m benchmarks.paper            # everything; hours on 2 cores
    python -m benchmarks.paper --short    # 2 subjects, 4 methods, 4 prompts, 1 seed; 6 minutes
    python -m benchmarks.paper --tune     # what options were chosen among, on other subjects

Each method learns each held-out subject and draws the held-out prompts at every setting of its
dial; then attention, compositions, tables and plots. What is done is kept under
benchmarks/paper/results, so a run that was stopped goes on, and several may run side by side with
`--only METHOD ...`, which takes some methods and makes no report.
"""

import argparse
import logging
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.paper import report
from benchmarks.paper.attention import attention
from benchmarks.paper.compare import compare
from benchmarks.paper.composition import Gallery, compose
from benchmarks.paper.method import BASE_FOLDER, Method
from benchmarks.paper.methods import ablations, candidates, compared
from benchmarks.paper.perfusion import Change
from benchmarks.paper.subjects import PAIRS, REPORTED, SIMILAR, TRIPLES, TUNED, Subject
from perfusion_core import BaseModel
from perfusion_core.similarity import Evaluator

RESULTS = Path(__file__).parent / "results"
_DOCS = Path(__file__).parents[2] / "docs/benchmark"


def main() -> None:
    """Do what is missing, then tell what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--only", nargs="*", metavar="METHOD")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    base = BaseModel.load(BASE_FOLDER)
    evaluator = Evaluator(BASE_FOLDER.parent / "evaluator")
    if arguments.tune:
        tried = _compare(candidates(base), TUNED, evaluator, RESULTS / "tune", arguments.only)
        if not arguments.only:
            report.write_tuning(tried, RESULTS / "tune", _DOCS / "steps.webp")
    elif arguments.short:
        _short(base, evaluator, RESULTS / "short")
    else:
        _full(base, evaluator, RESULTS / "full", arguments.only)


def _full(base: BaseModel, evaluator: Evaluator, folder: Path, only: Sequence[str] | None) -> None:
    results = _compare(compared(base), REPORTED, evaluator, folder, only)
    results |= _compare(ablations(base, folder), REPORTED[:5], evaluator, folder, only)
    if only:
        return
    gallery = Gallery(base, evaluator, folder)
    sets: list[tuple[str, Sequence[Sequence[Subject]], Change]] = [
        ("two concepts", PAIRS, ""),
        ("three concepts", TRIPLES, ""),
        ("two of a kind", SIMILAR, ""),
        ("two of a kind, removed one by one", SIMILAR, "removed one by one"),
        ("two of a kind, published gates", SIMILAR, "published gates"),
    ]
    composed = {
        title: compose(gallery, title, subjects, REPORTED, change=change)
        for title, subjects, change in sets
    }
    report.write(results, attention(base, REPORTED, folder), composed, folder, _DOCS)


def _short(base: BaseModel, evaluator: Evaluator, folder: Path) -> None:
    subjects = REPORTED[:2]
    methods = islice(compared(base), 4)
    results = _compare(methods, subjects, evaluator, folder, prompt_count=4, seed_count=1)
    gallery = Gallery(base, evaluator, folder)
    title = "two concepts"
    composed = {title: compose(gallery, title, [subjects], REPORTED[:3], seed_count=2)}
    found = attention(base, subjects, folder, seed_count=1)
    report.write(results, found, composed, folder, folder / "report")


def _compare(
    methods: Iterable[Method],
    subjects: Sequence[Subject],
    evaluator: Evaluator,
    folder: Path,
    only: Sequence[str] | None = None,
    **counts: int,
) -> dict[str, list[dict[str, Any]]]:
    results = {}
    for method in methods:
        if not only or method.name in only:
            results[method.name] = compare(method, subjects, evaluator, folder, **counts)
            print(report.similarity_table({method.name: results[method.name]}), flush=True)
    return results


if __name__ == "__main__":
    main()

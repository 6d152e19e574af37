"""The paper's comparison on a base model.

    python -m benchmarks.paper            # everything; hours on 2 cores
    python -m benchmarks.paper --short    # 2 subjects, 5 methods, 3 prompts, 1 seed; 8 minutes
    python -m benchmarks.paper --tune     # the candidates for the options, on other subjects

Each method learns each held-out subject and draws the held-out prompts at every setting of its
dial; then attention, compositions, tables and plots. The shipped base model is taken, or any
Stable Diffusion 1.x or 2.x folder by `--base-model`, at its own size. Results are kept in a
folder of the base model and the evaluator below benchmarks/paper/results, so a stopped run goes on
where it was. Several may run at once with `--only METHOD ...`, which takes some methods and makes
no report.
"""

import argparse
import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks.paper.compare import compare
from benchmarks.paper.figures import report
from benchmarks.paper.figures.attention import attention
from benchmarks.paper.figures.composition import Gallery, compose
from benchmarks.paper.methods.ablations import REMOVED_ONE_BY_ONE
from benchmarks.paper.methods.choice import ablations, candidates, compared
from benchmarks.paper.methods.method import BASE_FOLDER, Method
from benchmarks.paper.subjects import PAIRS, REPORTED, SIMILAR, TRIPLES, TUNED, Subject
from perfusion_core import BaseModel
from perfusion_core.edit_strategy import APART, PUBLISHED, EditStrategy
from perfusion_core.evaluators.similarity import Evaluator

RESULTS = Path(__file__).parent / "results"
EVALUATOR = BASE_FOLDER.parent / "evaluator"
_DOCS = Path(__file__).parents[2] / "docs/benchmark"
_SHORT_METHODS = 5


@dataclass(frozen=True)
class Run:
    """The base model, the evaluator, and the folder of results."""

    base: BaseModel
    source: Path  # the base model's folder
    evaluator: Evaluator
    folder: Path

    def compare(
        self,
        methods: Iterable[Method],
        subjects: Sequence[Subject],
        only: Sequence[str] | None = None,
        **counts: int,
    ) -> report.Results:
        """Measure each method, or only those that are named; print each as it is done."""
        side = self.base.default_resolution
        results = {}
        for method in methods:
            if not only or method.name in only:
                results[method.name] = compare(
                    method, subjects, self.evaluator, self.folder, side=side, **counts
                )
                print(report.similarity_table({method.name: results[method.name]}), flush=True)
        return results


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, then report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--only", nargs="*", metavar="METHOD")
    parser.add_argument("--base-model", type=Path, default=BASE_FOLDER, metavar="FOLDER")
    parser.add_argument("--evaluator", default=EVALUATOR, metavar="FOLDER_OR_NAME")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    asked = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    base = BaseModel.load(asked.base_model)
    if base.family == "sdxl":
        parser.error("The baselines train one text encoder: name an SD 1.x or 2.x folder.")
    evaluator = Evaluator(asked.evaluator)
    name = "tune" if asked.tune else "short" if asked.short else "full"
    folder = asked.results / kept_name(base, evaluator) / name
    run = Run(base, asked.base_model, evaluator, folder)
    # The documents are about the shipped base model.
    docs = _DOCS if asked.base_model.resolve() == BASE_FOLDER else folder / "report"
    if asked.tune:
        _tune(run, asked.only, docs)
    elif asked.short:
        _short(run)
    else:
        _full(run, asked.only, docs)


def kept_name(base: BaseModel, evaluator: Evaluator) -> str:
    """Name the folder of what depends on this base model, its defaults and the evaluator."""
    told = (
        base.fingerprint, base.covariance_fingerprint, base.defaults, evaluator.ref.fingerprint,
    )  # fmt: skip
    return f"{base.name}-{hashlib.sha256(repr(told).encode()).hexdigest()[:12]}"


def _tune(run: Run, only: Sequence[str] | None, docs: Path) -> None:
    tried = run.compare(candidates(run.base, run.source), TUNED, only)
    if not only:
        report.write_tuning(tried, run.folder, docs / "steps.webp")


def _full(run: Run, only: Sequence[str] | None, docs: Path) -> None:
    results = {
        **run.compare(compared(run.base, run.source, run.folder), REPORTED, only),
        **run.compare(ablations(run.base), REPORTED[:5], only),
    }
    if only:
        return
    gallery = Gallery(run.base, run.evaluator, run.folder)
    sets: list[tuple[str, Sequence[Sequence[Subject]], EditStrategy]] = [
        ("two concepts", PAIRS, APART),
        ("three concepts", TRIPLES, APART),
        ("two of a kind", SIMILAR, APART),
        ("two of a kind, removed one by one", SIMILAR, REMOVED_ONE_BY_ONE),
        ("two of a kind, published gates", SIMILAR, PUBLISHED),
    ]
    composed = {
        title: compose(gallery, title, subjects, REPORTED, strategy=strategy)
        for title, subjects, strategy in sets
    }
    found = attention(run.base, REPORTED, run.folder)
    report.write(results, found, composed, run.folder, docs)


def _short(run: Run) -> None:
    subjects = REPORTED[:2]
    methods = islice(compared(run.base, run.source, run.folder), _SHORT_METHODS)
    results = run.compare(methods, subjects, prompt_count=3, seed_count=1)
    gallery = Gallery(run.base, run.evaluator, run.folder)
    title = "two concepts"
    composed = {title: compose(gallery, title, [subjects], REPORTED[:3], seed_count=2)}
    found = attention(run.base, subjects, run.folder, seed_count=1)
    report.write(results, found, composed, run.folder, run.folder / "report")


if __name__ == "__main__":
    main()

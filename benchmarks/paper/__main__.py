"""The paper's comparison on a base model.

    python -m benchmarks.paper            # everything; hours on 2 cores
    python -m benchmarks.paper --short    # 2 subjects, 5 methods, 3 prompts, 1 seed; 8 minutes
    python -m benchmarks.paper --tune     # the candidates for the options, on other subjects
    python -m benchmarks.paper --base-model FOLDER --subjects FOLDER    # your model, your photos

Each method learns each held-out subject and draws the held-out prompts at every setting of its
dial; then attention, compositions, tables and plots. The shipped base model is taken, or any
Stable Diffusion 1.x or 2.x folder by `--base-model`, at its own size. benchmarks/paper/folders.py
says what a folder of subjects holds.

Results are kept in ~/.cache/perfusion-paper, in a folder of the base model and the evaluator, by
method and options, so a stopped run goes on where it was. The first subject of each kind is
measured first; then the hours to come are known, and are printed after every result. Several may
run at once with `--only NAME ...`, which takes some methods and figures and makes no report;
`--skip NAME ...` leaves some out. `--add NAME ...` takes some, and reports them with what
results.json holds of all others.
"""

import argparse
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.paper.compare import SEEDS, Comparison
from benchmarks.paper.figures import report
from benchmarks.paper.figures.attention import Attention
from benchmarks.paper.figures.composition import Composer, Gallery
from benchmarks.paper.figures.report import Made
from benchmarks.paper.figures.sets import Set, sets_of, similar_sets
from benchmarks.paper.figures.tables import Results
from benchmarks.paper.folders import SubjectsError, read_subjects
from benchmarks.paper.kept import EVALUATOR, RESULTS, Store, Work, finish, kept_name
from benchmarks.paper.methods.choice import (
    ablations,
    candidates,
    compared,
    keys_trained,
    longer_inversion,
    sharing,
    usual_custom_diffusion,
    usual_lora,
)
from benchmarks.paper.methods.method import BASE_FOLDER, Method
from benchmarks.paper.methods.perfusion import Perfusion
from benchmarks.paper.subjects import REPORTED, SHARING, TUNED, Subject
from perfusion_core import BaseModel
from perfusion_core.evaluators.similarity import Evaluator

_DOCS = Path(__file__).parents[2] / "docs/benchmark"
_SHORT_METHODS = 5
_OF_ABLATIONS = 5  # subjects
_SHARING = "one background, "  # before a method's name


@dataclass(frozen=True)
class Plan:
    """Works by part of the report and by method or figure, in the order in which they are made."""

    parts: dict[str, dict[str, list[Work]]]

    def chosen(self, keep: Callable[[str], bool]) -> "Plan":
        """Return the plan with the names that `keep` is true of."""
        return Plan(
            {
                part: {name: works for name, works in named.items() if keep(name)}
                for part, named in self.parts.items()
            }
        )

    def works(self) -> list[Work]:
        """Return all works."""
        return [work for named in self.parts.values() for works in named.values() for work in works]

    def results(self, part: str) -> Results:
        """Read the results of a part."""
        named = self.parts.get(part, {})
        return {
            name.removeprefix(_SHARING): [work.read() for work in works]
            for name, works in named.items()
        }

    def digests(self) -> Made:
        """Return what decides every result, by part and name."""
        return {
            part: {
                name.removeprefix(_SHARING): [work.digest for work in works]
                for name, works in named.items()
            }
            for part, named in self.parts.items()
        }

    def kept(self) -> set[str]:
        """Return the names whose results are all kept."""
        return {
            name
            for named in self.parts.values()
            for name, works in named.items()
            if all(work.file.exists() for work in works)
        }


@dataclass(frozen=True)
class Run:
    """The base model, the evaluator, and the folder of results."""

    base: BaseModel
    source: Path  # the base model's folder
    evaluator: Evaluator
    folder: Path

    def tuning(self) -> Plan:
        """Plan the candidates for the options, on the tuning subjects."""
        methods = candidates(self.base, self.source)
        return Plan({"similarity": self._compared(methods, TUNED, self._comparison())})

    def full(self, subjects: Sequence[Subject], *, own: bool) -> Plan:
        """Plan everything; `own` says that the subjects are the user's, and not the benchmark's."""
        comparison = self._comparison()
        similarity = self._compared(compared(self.base, self.source), subjects, comparison)
        few = subjects[:_OF_ABLATIONS]
        similarity |= self._compared(
            ablations(self.base, self.source, self.folder), few, comparison
        )
        parts = {"similarity": similarity, **self._figures(subjects)}
        if not own:
            methods = sharing(self.base, self.source)
            works = self._compared(methods, SHARING, comparison)
            parts["sharing"] = {
                f"{_SHARING}{name}": [replace(work, kind=f"{_SHARING}{name}") for work in named]
                for name, named in works.items()
            }
        sets = [*(sets_of(subjects) if len(subjects) > 2 else []), *([] if own else similar_sets())]
        parts["compositions"] = self._composed(sets, subjects, len(SEEDS))
        return Plan(parts)

    def short(self) -> Plan:
        """Plan two subjects with few methods, prompts and seeds."""
        subjects = REPORTED[:2]
        comparison = Comparison(self.evaluator, self._store(), prompt_count=3, seed_count=1)
        methods = list(compared(self.base, self.source, short=True))[:_SHORT_METHODS]
        similarity = self._compared(methods, subjects, comparison)
        (pairs, *_) = sets_of(subjects)
        pairs = replace(pairs, prompts=pairs.prompts[:2], has_baselines=False)
        return Plan(
            {
                "similarity": similarity,
                **self._figures(subjects, short=True),
                "compositions": self._composed([pairs], REPORTED[:3], 2),
            }
        )

    def _store(self) -> Store:
        return Store(self.folder, self.base.default_resolution)

    def _comparison(self) -> Comparison:
        return Comparison(self.evaluator, self._store())

    def _compared(
        self, methods: Iterable[Method], subjects: Sequence[Subject], comparison: Comparison
    ) -> dict[str, list[Work]]:
        return {method.name: comparison.works(method, subjects) for method in methods}

    def _figures(
        self, subjects: Sequence[Subject], *, short: bool = False
    ) -> dict[str, dict[str, list[Work]]]:
        baselines = [longer_inversion(self.base, self.source, short=short)]
        if not short:
            baselines.append(usual_custom_diffusion(self.base, self.source))
        attention = Attention(
            self._store(), Perfusion(self.base),
            keys_trained=None if short else keys_trained(self.base),
            baselines=baselines, seed_count=1 if short else 2,
        )  # fmt: skip
        return {"attention": {"attention": [attention.work(s) for s in subjects[:_OF_ABLATIONS]]}}

    def _composed(
        self, sets: Iterable[Set], others: Sequence[Subject], seed_count: int
    ) -> dict[str, list[Work]]:
        gallery = Gallery(self.base, self.evaluator, self._store(), Perfusion(self.base))
        composer = Composer(gallery, others, seed_count)
        makers = (usual_custom_diffusion, usual_lora)
        rivals = [make(self.base, self.source) for make in makers]
        planned = {}
        for asked in sets:
            planned[asked.title] = composer.works(asked)
            for method in rivals if asked.has_baselines else []:
                planned[f"{asked.title}, {method.name}"] = composer.works(asked, method)
        return planned


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, then report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--skip", nargs="+", metavar="NAME", default=[])
    parser.add_argument("--add", nargs="+", metavar="NAME")
    parser.add_argument("--base-model", type=Path, default=BASE_FOLDER, metavar="FOLDER")
    parser.add_argument("--subjects", type=Path, metavar="FOLDER")
    parser.add_argument("--evaluator", default=EVALUATOR, metavar="FOLDER_OR_NAME")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    asked = parser.parse_args(arguments)
    if asked.add and (asked.tune or asked.short or asked.only or asked.skip):
        parser.error("--add is of the whole comparison: without --tune, --short, --only, --skip.")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    subjects: tuple[Subject, ...] = REPORTED
    if asked.subjects is not None:
        if asked.short or asked.tune:
            parser.error("--subjects is of the whole comparison, without --short and --tune.")
        try:
            subjects = read_subjects(asked.subjects)
        except SubjectsError as error:
            parser.error(str(error))
    base = BaseModel.load(asked.base_model)
    if base.family == "sdxl":
        parser.error("The baselines train one text encoder: name an SD 1.x or 2.x folder.")
    evaluator = Evaluator(asked.evaluator)
    name = "tune" if asked.tune else "short" if asked.short else "full"
    folder = asked.results / kept_name(base, evaluator) / name
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(base, asked.base_model, evaluator, folder)
    if asked.tune:
        plan = run.tuning()
    else:
        plan = run.short() if asked.short else run.full(subjects, own=asked.subjects is not None)
    names = [name for named in plan.parts.values() for name in named]
    # The documents are about the shipped base model and its subjects.
    shipped = asked.base_model.resolve() == BASE_FOLDER and asked.subjects is None
    docs = _DOCS if shipped and not asked.short else folder / "report"
    earlier: dict[str, Any] | None = None
    if asked.add:
        try:
            earlier = report.read_earlier(docs / "results.json", of=folder.parent.name)
        except (ValueError, FileNotFoundError) as error:
            parser.error(str(error))
    for chosen in [*(asked.only or []), *asked.skip, *(asked.add or [])]:
        if chosen not in names:
            parser.error(f'There is no "{chosen}". There are: {", ".join(names)}.')
    if set(asked.skip) & {"superclass", "perfusion"}:
        parser.error("Every table compares with superclass and perfusion: they cannot be skipped.")
    left = set(asked.only or names) - set(asked.skip)
    if asked.add:
        # Scenes are compared with the superclass's images, and all kept images are shown.
        left = {*asked.add, "superclass"} | plan.kept()
        if any(name.startswith(_SHARING) for name in asked.add):
            left.add(f"{_SHARING}superclass")
    planned, plan = plan.digests(), plan.chosen(left.__contains__)
    finish(plan.works())
    if asked.only:
        return
    docs.mkdir(parents=True, exist_ok=True)
    if asked.tune:
        report.write_tuning(plan.results("similarity"), folder, docs / "steps.webp")
        return
    found = report.Found(
        folder.parent.name, planned,
        similarity=plan.results("similarity"),
        attention=plan.results("attention").get("attention", []),
        compositions=plan.results("compositions"), sharing=plan.results("sharing"),
    )  # fmt: skip
    if earlier is not None:
        found = found.with_earlier(earlier)
    report.write(found, folder, docs)


if __name__ == "__main__":
    main()

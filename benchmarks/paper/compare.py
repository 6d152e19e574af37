"""Figures 3 and 5, and the ablations: each method on each subject, at each setting of its dial.

Each method and subject has a JSON file and a contact sheet, and what has them is not done again.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.paper import contact
from benchmarks.paper.kept import Store, Work, finish, kept_in, photos_told
from benchmarks.paper.measures import score
from benchmarks.paper.methods.method import Method
from benchmarks.paper.subjects import Subject, acts_of, photograph, prompts_of
from perfusion_core.evaluators.similarity import Evaluator

SEEDS = (7000, 7100, 7200, 7300)
"""Where the seeds of the first, second ... image of a prompt begin. Each prompt has its own, since
a small model draws all cats of one seed alike."""

_ACT_SEEDS = 2  # of the prompts that act, pose and wear

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparison:
    """What is compared on: evaluator, kept trainings, and how many images are drawn."""

    evaluator: Evaluator
    store: Store
    prompt_count: int | None = None
    seed_count: int = len(SEEDS)

    def works(self, method: Method, subjects: Iterable[Subject]) -> list[Work]:
        """Return the works of one method, one for each subject."""
        return [self._work(method, subject) for subject in subjects]

    def _work(self, method: Method, subject: Subject) -> Work:
        asked = prompts_of(subject)[: self.prompt_count]
        acts = acts_of(subject)[: self.prompt_count]
        begins = SEEDS[: min(self.seed_count, method.seed_count)]
        told = {
            "taught": [method.taught_as, dict(method.taught)],
            "drawn": dict(method.drawn),
            "usual": [method.usual_steps, method.usual],
            "schedule": [[steps, list(dials)] for steps, dials in method.schedule.items()],
            "prompts": [*asked, *acts],
            "seeds": begins,
            "photos": photos_told(subject, side=self.store.side),
        }
        kept = kept_in(self.store.folder, method.name, [subject.name], told)
        make = partial(self._measure, method, subject, kept, asked, acts, begins)
        return Work(method.name, (subject.name,), kept.with_suffix(".json"), make)

    def _measure(
        self,
        method: Method,
        subject: Subject,
        kept: Path,
        asked: Sequence[str],
        acts: Sequence[str],
        begins: Sequence[int],
    ) -> dict[str, Any]:
        photos = photograph(subject, side=self.store.side)
        prompts, seeds = _each(asked, begins)
        told: dict[str, Any] = {
            "method": method.name,
            "subject": subject.name,
            "prompts": list(asked),
            "acts": list(acts),
            "sheet": str(kept.relative_to(self.store.folder)) + ".png",
        }
        rows, sheet = [], [[photo.picture for photo in photos]]
        shown: list[Image.Image] = []
        for learned in self.store.learn(method, subject):
            for dial in method.schedule[learned.steps]:
                _log.info(
                    "%s, %s: %d steps, dial %g", method.name, subject.name, learned.steps, dial
                )
                images = learned.draw(prompts, seeds, dial)
                found = score(self.evaluator, subject, photos, images=images, prompts=prompts)
                rows.append({"steps": learned.steps, "dial": dial, **asdict(found)})
                sheet.append(images[: len(asked)])  # the first seed
            told |= {"stored_bytes": learned.stored_bytes, "seconds": round(learned.seconds, 1)}
            if learned.steps == method.usual_steps:
                acting, their_seeds = _each(acts, begins[:_ACT_SEEDS])
                images = learned.draw(acting, their_seeds, method.usual)
                found = score(self.evaluator, subject, photos, images=images, prompts=acting)
                where = {"steps": learned.steps, "dial": method.usual}
                told["acting"] = {**where, **asdict(found)}
                shown = images[: len(acts)]
        contact.write([*sheet, shown], kept.with_suffix(".png"))
        return {**told, "rows": rows}


def compare(
    method: Method, subjects: Sequence[Subject], comparison: Comparison
) -> list[dict[str, Any]]:
    """Return what `method` achieves, one dictionary per subject; measure what is not kept."""
    works = comparison.works(method, subjects)
    finish(works)
    return [work.read() for work in works]


def _each(prompts: Sequence[str], begins: Sequence[int]) -> tuple[list[str], list[int]]:
    """Return every prompt with a seed of its own after each beginning."""
    seeds = [begin + number for begin in begins for number in range(len(prompts))]
    return [*prompts] * len(begins), seeds

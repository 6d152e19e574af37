"""Figures 3 and 5, and the ablations: each method on each subject, at each setting of its dial.

Each method and subject has a JSON file and a contact sheet, and what has them is not done again.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.paper import contact
from benchmarks.paper.measures import score
from benchmarks.paper.methods.method import Method
from benchmarks.paper.subjects import Subject, photograph, prompts_of
from perfusion_core.evaluators.similarity import Evaluator

SEEDS = (7000, 7100, 7200, 7300)
"""Where the seeds of the first, second ... image of a prompt begin. Each prompt has its own, since
a small model draws all cats of one seed alike."""

_log = logging.getLogger(__name__)


def compare(
    method: Method,
    subjects: Sequence[Subject],
    evaluator: Evaluator,
    folder: Path,
    *,
    side: int,
    prompt_count: int | None = None,
    seed_count: int = len(SEEDS),
) -> list[dict[str, Any]]:
    """Return what `method` achieves, one dictionary per subject; measure what `folder` lacks.

    Photos are `side` pixels wide, the base model's own size.
    """
    found = []
    for subject in subjects:
        file = kept_in(folder, method.name, [subject.name]).with_suffix(".json")
        if not file.exists():
            told = _measure(
                method, subject, evaluator, file,
                side=side, prompt_count=prompt_count, seed_count=seed_count,
            )  # fmt: skip
            write_whole(file, told)
        found.append(json.loads(file.read_text()))
    return found


def _measure(
    method: Method,
    subject: Subject,
    evaluator: Evaluator,
    file: Path,
    *,
    side: int,
    prompt_count: int | None,
    seed_count: int,
) -> dict[str, Any]:
    photos = photograph(subject, side=side)
    asked = prompts_of(subject)[:prompt_count]
    begins = SEEDS[: min(seed_count, method.seed_count)]
    seeds = [begin + number for begin in begins for number in range(len(asked))]
    prompts = [*asked] * len(begins)
    file.parent.mkdir(parents=True, exist_ok=True)
    rows, sheet = [], [[photo.picture for photo in photos]]
    for learned in method.learn(subject, photos, seed=0):
        for dial in method.schedule[learned.steps]:
            _log.info("%s, %s: %d steps, dial %g", method.name, subject.name, learned.steps, dial)
            images = learned.draw(prompts, seeds, dial)
            found = score(evaluator, subject, photos, images=images, prompts=prompts)
            rows.append({"steps": learned.steps, "dial": dial, **asdict(found)})
            sheet.append(images[: len(asked)])  # the first seed
        told = {
            "method": method.name,
            "subject": subject.name,
            "prompts": asked,
            "stored_bytes": learned.stored_bytes,
            "seconds": round(learned.seconds, 1),
            "rows": rows,
        }
        learned.keep(file.with_suffix(".safetensors"))
    contact.write(sheet, file.with_suffix(".png"))
    return told


def kept_in(folder: Path, what: str, subjects: Sequence[str]) -> Path:
    """Return where a method or a figure keeps its results of some subjects, without the suffix."""
    return folder / what.replace(", ", "-").replace(" ", "-") / "+".join(subjects)


def write_whole(file: Path, told: dict[str, Any]) -> None:
    """Write a result last and at once, so that an existing file is whole."""
    scratch = file.with_suffix(".part")
    scratch.write_text(json.dumps(told, indent=1))
    scratch.rename(file)

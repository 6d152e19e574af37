"""Where results are kept, and how a run that was stopped goes on with the hours to come known.

A result is a JSON file in the folder of its base model and its kind. Its name holds its subjects
and a digest of what else decides it: options, prompts, seeds and photos. So other options never
take the results of earlier ones, and earlier options find theirs again.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.paper.methods.method import BASE_FOLDER, Learned, Method
from benchmarks.paper.subjects import Subject, photograph
from perfusion_core import BaseModel
from perfusion_core.evaluators.similarity import Evaluator

RESULTS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "perfusion-paper"
EVALUATOR = BASE_FOLDER.parent / "evaluator"


@dataclass(frozen=True)
class Work:
    """One result to make: works of one kind take about as long as each other."""

    kind: str  # a method or a figure
    subjects: tuple[str, ...]
    file: Path  # JSON; other files of the result have its name with other suffixes
    make: Callable[[], dict[str, Any]]

    @property
    def digest(self) -> str:
        """What decides the result next to its subjects, as its file's name has it."""
        return self.file.stem.rpartition("-")[2]

    def read(self) -> dict[str, Any]:
        """Return the kept result."""
        told: dict[str, Any] = json.loads(self.file.read_text())
        return told


def kept_name(base: BaseModel, evaluator: Evaluator) -> str:
    """Name the folder of what depends on this base model, its defaults and the evaluator."""
    told = (
        base.fingerprint, base.covariance_fingerprint, base.defaults, evaluator.ref.fingerprint,
    )  # fmt: skip
    return f"{base.name}-{hashlib.sha256(repr(told).encode()).hexdigest()[:12]}"


def kept_in(folder: Path, kind: str, subjects: Sequence[str], told: Any) -> Path:
    """Return where a result is kept, without its suffix; `told` is what else decides it."""
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:10]
    return folder / _slug(kind) / f"{'+'.join(subjects)}-{digest}"


def photos_told(subject: Subject, *, side: int) -> str:
    """Return a digest of the subject's photos, their masks and its superclass."""
    told = hashlib.sha256(subject.superclass.encode())
    for photo in photograph(subject, side=side):
        told.update(photo.picture.tobytes())
        told.update(b"" if photo.mask is None else photo.mask.tobytes())
    return told.hexdigest()[:10]


def write_whole(file: Path, told: Mapping[str, Any]) -> None:
    """Write a result last and at once, so that an existing file is whole."""
    scratch = file.with_suffix(".part")
    scratch.write_text(json.dumps(told, indent=1))
    scratch.rename(file)


def finish(works: Sequence[Work]) -> None:
    """Make what is missing, the first of each kind first, and print the hours to come.

    A kept result holds the time of its kind, so only other kinds are timed again.
    """
    seconds: dict[str, float] = {}
    missing: list[Work] = []
    for work in works:
        if work.file.exists():
            seconds[work.kind] = float(work.read()["wall_seconds"])
        else:
            missing.append(work)
    kinds = {work.kind: work for work in reversed(missing)}
    first = [work for work in missing if kinds[work.kind] is work]
    ordered = first + [work for work in missing if kinds[work.kind] is not work]
    if missing:
        _print_hours(ordered, seconds, done=f"{len(works) - len(missing)} of {len(works)} kept")
    for number, work in enumerate(ordered, 1):
        begun_s = time.perf_counter()
        work.file.parent.mkdir(parents=True, exist_ok=True)
        told = work.make()
        seconds[work.kind] = round(time.perf_counter() - begun_s, 1)
        write_whole(work.file, {**told, "wall_seconds": seconds[work.kind]})
        done = f"{work.kind}, {' and '.join(work.subjects)}: {seconds[work.kind]:.0f} s"
        _print_hours(ordered[number:], seconds, done=done)


def _print_hours(left: Sequence[Work], seconds: Mapping[str, float], *, done: str) -> None:
    known = sum(seconds.get(work.kind, 0.0) for work in left) / 3600
    untimed = len({work.kind for work in left} - set(seconds))
    more = f", and {untimed} kinds that were not timed yet" if untimed else ""
    clock = time.strftime("%H:%M")
    print(f"{clock} {done}; {len(left)} results, {known:.1f} hours to come{more}", flush=True)


@dataclass(frozen=True)
class Store:
    """What methods have learned of subjects, so that no figure trains a subject again."""

    folder: Path
    side: int  # of the photos, in pixels

    def learn(self, method: Method, subject: Subject) -> Iterator[Learned]:
        """Yield the subject after each of the schedule's steps; train it if it is not kept."""
        files = [self._file(method, subject, steps) for steps in method.schedule]
        if all(map(_is_whole, files)):
            again = [_read(method, subject, file) for file in files]
            kept = [learned for learned in again if learned is not None]
            if len(kept) == len(files):
                yield from kept
                return
        for learned in method.learn(subject, photograph(subject, side=self.side), seed=0):
            self._keep(learned, self._file(method, subject, learned.steps))
            yield learned

    def file(self, method: Method, subject: Subject, steps: int) -> Path:
        """Return the file of what was learned after `steps`; train the subject if it is missing."""
        file = self._file(method, subject, steps)
        if not _is_whole(file):
            for learned in method.learn(subject, photograph(subject, side=self.side), seed=0):
                self._keep(learned, self._file(method, subject, learned.steps))
        return file

    def _file(self, method: Method, subject: Subject, steps: int) -> Path:
        told = [dict(method.taught), photos_told(subject, side=self.side)]
        kind = f"taught/{_slug(method.taught_as)}"
        kept = kept_in(self.folder, kind, [subject.name, str(steps)], told)
        return kept.with_suffix(".safetensors")

    def _keep(self, learned: Learned, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        learned.keep(file)
        write_whole(file.with_suffix(".json"), {"seconds": learned.seconds})


def _is_whole(file: Path) -> bool:
    return file.with_suffix(".json").exists()


def _read(method: Method, subject: Subject, file: Path) -> Learned | None:
    seconds = float(json.loads(file.with_suffix(".json").read_text())["seconds"])
    return method.read(file, subject, seconds=seconds)


def _slug(kind: str) -> str:
    return kind.replace(", ", "-").replace(" ", "-")

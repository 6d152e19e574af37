"""Break the product on purpose, one break at a time, and check that a test fails.

`python -m tests.mutants [WORDS]` runs the mutants whose name or file holds one of the words, or
all. Each is applied to a scratch copy of what git tracks, and only its own test runs there. The
exit code is 0 only if every test passes without its mutant and fails with it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.mutants.entries import ROOT, DoesNotApply, Mutant, load

_TIMEOUT_SECONDS = 240
_WITHOUT_MUTANTS_SECONDS = 1800
_AT_ONCE = 2
_TESTS_FAILED = 1  # pytest's exit code; higher codes mean that pytest could not run the tests


def main(words: Sequence[str]) -> int:
    """Run the chosen mutants and print the result of each."""
    mutants = [
        mutant
        for mutant in load()
        if not words or any(word in f"{mutant.name} {mutant.file}" for word in words)
    ]
    if not mutants:
        print("No mutant's name or file holds one of these words.")
        return 2
    with tempfile.TemporaryDirectory() as name:
        copies = [_copy(Path(name) / str(n)) for n in range(_AT_ONCE)]
        if not _pass_without_mutants(copies[0], mutants):
            return 1
        ends = _run_all(copies, mutants)
    print(", ".join(f"{count} {end}" for end, count in ends.items()))
    return 0 if set(ends) == {"killed"} else 1


def _run_all(copies: Iterable[Path], mutants: Sequence[Mutant]) -> Counter[str]:
    free: SimpleQueue[Path] = SimpleQueue()
    for copy in copies:
        free.put(copy)

    def run_in_a_free_copy(mutant: Mutant) -> str:
        copy, began = free.get(), time.monotonic()
        try:
            end = _run(copy, mutant)
        finally:
            free.put(copy)
        print(f"{end:>14} {time.monotonic() - began:4.0f} s  {mutant.name}", flush=True)
        return end

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return Counter(pool.map(run_in_a_free_copy, mutants))


def _run(copy: Path, mutant: Mutant) -> str:
    try:
        before = mutant.apply(copy)
    except DoesNotApply:
        return "did not apply"
    try:
        code = _pytest(copy, [mutant.test], seconds=_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        return "killed" if mutant.hangs else "timed out"
    finally:
        (copy / mutant.file).write_text(before)
    if code == _TESTS_FAILED:
        return "killed"
    return "could not run" if code else "survived"


def _pass_without_mutants(copy: Path, mutants: Iterable[Mutant]) -> bool:
    tests = sorted({mutant.test for mutant in mutants})
    passed = _pytest(copy, tests, seconds=_WITHOUT_MUTANTS_SECONDS, quiet=False) == 0
    if not passed:
        print("These tests fail without any mutant; what they say of mutants means nothing.")
    return passed


def _pytest(copy: Path, tests: Sequence[str], *, seconds: float, quiet: bool = True) -> int:
    output = subprocess.DEVNULL if quiet else None
    # The empty mark selects every test, whether it needs servers or not.
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", ""]
    done = subprocess.run(
        [*command, *tests],
        cwd=copy,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=output,
        stderr=output,
        timeout=seconds,
    )
    return done.returncode


def _copy(folder: Path) -> Path:
    """Copy the tracked files of the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        source, target = ROOT / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return folder


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

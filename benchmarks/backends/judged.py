"""From photos to a judged concept file by `perfusion train`, and by that of another checkout.

    git worktree add ../earlier COMMIT
    OMP_NUM_THREADS=2 python -m benchmarks.backends.judged --against ../earlier [--rounds N]

Each round runs the command of both checkouts once, in the same environment, with the photos and
masks of a tuning subject. The command loads the base model, trains with its defaults, draws the
curve and the proof, and writes the file. Wall times and their ratio within a round are printed, and
the medians.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.paper.subjects import TUNED, photograph

_HERE = Path(__file__).parents[2]
_SUBJECT = TUNED[0]
_SIDE = 256


def main() -> None:
    """Print a line for each round, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pictures = _photos(Path(folder))
        rounds = []
        for number in range(arguments.rounds):
            ours, theirs = (
                _seconds(checkout.resolve(), pictures, Path(folder))
                for checkout in (_HERE, arguments.against)
            )
            rounds.append((ours, theirs))
            print(
                f"round {number + 1}: {ours:.1f} s, {theirs:.1f} s, {ours / theirs:.2f} x",
                flush=True,
            )
    ours, theirs, ratio = (
        statistics.median(values)
        for values in zip(*((a, b, a / b) for a, b in rounds), strict=True)
    )
    print(f"median: {ours:.1f} s, {theirs:.1f} s in the other checkout, {ratio:.2f} x")


def _photos(folder: Path) -> list[str]:
    """Write the photos and their masks; return the command's arguments."""
    arguments = []
    for k, photo in enumerate(photograph(_SUBJECT, side=_SIDE)):
        picture, mask = folder / f"{k}.png", folder / f"mask{k}.png"
        photo.picture.save(picture)
        assert photo.mask is not None
        photo.mask.save(mask)
        arguments += [str(picture), "--mask", str(mask)]
    return arguments


def _seconds(checkout: Path, pictures: list[str], folder: Path) -> float:
    begun = time.perf_counter()
    subprocess.run(
        [
            *(sys.executable, "-m", "api", "train", *pictures),
            *("--name", "subject", "--superclass", _SUBJECT.superclass),
            *("--out", str(folder / "subject.safetensors")),
        ],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout), "PERFUSION_DATA_DIR": str(folder / "data")},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()

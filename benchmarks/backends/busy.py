"""What an image and a training step take while other programs use the cores.

    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=1000 \
        python -m benchmarks.backends.busy [--neighbours 2] [--rounds N]

Each round measures on a quiet machine, and then with so many processes that compute without end.
The ratios are of one round, and their medians are printed. The environment says how the threads of
OpenMP wait for each other; these values are those of every `perfusion` command
(perfusion_core/devices/threads.py).
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from benchmarks.measure import seconds
from benchmarks.staging import SHIPPED, picture
from perfusion_core import BaseModel, train
from perfusion_core.sampling.sampler import generate

_ENDLESS = "while True: pass"


def main() -> None:
    """Print one line for each kind of work."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-model", default=str(SHIPPED))
    parser.add_argument("--neighbours", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    base = BaseModel.load(arguments.base_model)
    print(f"{base.backend.name} in {base.backend.precision}, {torch.get_num_threads()} threads")
    works = _works(base)
    for work in works.values():
        work()
    for name, work in works.items():
        quiet, busy = [], []
        for _ in range(arguments.rounds):
            quiet.append(seconds(work))
            with _neighbours(arguments.neighbours):
                busy.append(seconds(work))
        ratio = statistics.median(b / a for a, b in zip(quiet, busy, strict=True))
        print(
            f"{name}: {statistics.median(quiet):.2f} s, with {arguments.neighbours} neighbours "
            f"{statistics.median(busy):.2f} s, {ratio:.1f} x",
            flush=True,
        )


def _works(base: BaseModel) -> dict[str, Callable[[], object]]:
    chosen = base.backend
    config = base.defaults.generate_config({"seed": 1, "num_images": 1})
    long = base.defaults.train_config({"max_train_steps": 10_000})
    training = train(base, [picture(base)], name="x", superclass="teddy", config=long)

    def image() -> object:
        return generate(base, "a photo of a teddy", config=config)

    def image_in_torch() -> None:
        base.backend = base.eager
        try:
            image()
        finally:
            base.backend = chosen

    return {
        "an image": image,
        "an image in torch": image_in_torch,
        "a training step": lambda: next(training),
    }


@contextmanager
def _neighbours(count: int) -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", _ENDLESS]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()

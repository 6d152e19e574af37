"""How time and memory grow: with concurrent requests, and with concepts in one prompt.

    python -m benchmarks.growth [--base-model FOLDER] [--rounds N] [--plot FILE]

Requests of one concept each are handed to the engine together; the time is until the last image.
Memory is the process's peak above what the loaded model takes, in ascending order of size; on
CUDA, the device's.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import torch

from benchmarks.staging import KINDS, SHIPPED, image_request, untrained
from perfusion_core import BaseModel, Concept
from perfusion_core.sampling.sampler import ImageRequest
from worker.engine.engine import Engine

_REQUESTS = (1, 2, 4, 8, 16)
_CONCEPTS = (1, 2, 4, 8)
_PLOT = Path(__file__).parents[1] / "docs" / "benchmark" / "growth.webp"


def main() -> None:
    """Print one line for each size, and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-model", default=str(SHIPPED))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", type=Path, default=_PLOT)
    arguments = parser.parse_args()

    base = BaseModel.load(arguments.base_model)
    concepts = [untrained(base, kind) for kind in KINDS]
    engine = Engine(lambda: base)
    engine.start()
    crowds = {n: [_request(base, [concept]) for concept in concepts[:n]] for n in _REQUESTS}
    prompts = {n: [_request(base, concepts[:n])] for n in _CONCEPTS}
    engine.submit(prompts[1][0]).result()
    loaded = _peak_mb()
    times: dict[int, list[float]] = {n: [] for n in crowds}
    long: dict[int, list[float]] = {n: [] for n in prompts}
    memory: dict[int, float] = {}
    for _ in range(arguments.rounds):
        for n, wanted in prompts.items():
            long[n].append(_seconds(engine, wanted))
        for n, wanted in crowds.items():
            times[n].append(_seconds(engine, wanted))
            memory.setdefault(n, _peak_mb() - loaded)
    engine.stop()
    by_requests = {n: statistics.median(time) for n, time in times.items()}
    by_concepts = {n: statistics.median(seconds) for n, seconds in long.items()}
    for n, seconds in by_requests.items():
        print(
            f"{n} requests: {seconds:.2f} s, {n / seconds:.2f} images/s, "
            f"{memory[n]:.0f} MB above the loaded model"
        )
    for n, seconds in by_concepts.items():
        print(f"{n} concepts in a prompt: {seconds:.2f} s")
    _draw(by_requests, memory, by_concepts, file=arguments.plot)


def _request(base: BaseModel, concepts: Sequence[Concept]) -> ImageRequest:
    return image_request(concepts, base.defaults.generate_config({"seed": 1, "num_images": 1}))


def _seconds(engine: Engine, requests: Sequence[ImageRequest]) -> float:
    begun = time.perf_counter()
    for request in [engine.submit(request) for request in requests]:
        request.result()
    return time.perf_counter() - begun


def _peak_mb() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _draw(
    by_requests: dict[int, float],
    memory: dict[int, float],
    by_concepts: dict[int, float],
    *,
    file: Path,
) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
    for ax, found, x, y in (
        (axes[0], by_requests, "concurrent requests", "seconds until the last image"),
        (axes[1], memory, "concurrent requests", "peak MB above the loaded model"),
        (axes[2], by_concepts, "concepts in the prompt", "seconds for an image"),
    ):
        ax.plot(list(found), list(found.values()), "o-")
        ax.set(xlabel=x, ylabel=y, xticks=list(found))
        ax.grid(alpha=0.3)
    one = by_requests[1]
    axes[0].plot(list(by_requests), [n * one for n in by_requests], ":", label="one by one")
    axes[0].legend(frameon=False)
    for ax in axes:
        ax.set_ylim(0, 1.1 * ax.get_ylim()[1])
    figure.savefig(file, dpi=90, pil_kwargs={"lossless": True, "method": 6})


if __name__ == "__main__":
    main()

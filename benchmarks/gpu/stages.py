"""The stages of benchmarks/gpu/__main__.py in order of importance."""

import statistics
from collections.abc import Callable, Mapping
from functools import partial

import torch

from benchmarks.gpu import sampling, training
from benchmarks.gpu.bench import Bench, Figures
from benchmarks.measure import seconds


def matrix(bench: Bench) -> Figures:
    """Measure the card's own rate, by a large product of random matrices."""
    n, rates = bench.size.matrix, {}
    for dtype in (torch.bfloat16, torch.float32):
        a, b = torch.randn(2, n, n, device=bench.device).to(dtype)
        times = [seconds(partial(torch.matmul, a, b)) for _ in range(8)][3:]
        rates[str(dtype).removeprefix("torch.")] = 2 * n**3 / statistics.median(times) / 1e12
    return {"tflops_a_second": rates}


# Upper estimates of each stage's seconds on an H200: with less time left it is skipped.
STAGES: Mapping[Callable[[Bench], Figures], float] = {
    matrix: 5,
    sampling.shipped_steps: 30,
    sampling.backends: 30,
    sampling.batches: 30,
    sampling.shipped_concurrency: 40,
    sampling.tenants: 90,
    sampling.interactive: 10,
    training.options: 60,
    training.whole_training: 60,
    sampling.compiled_images: 120,
    sampling.one_image: 40,
    training.rivals: 40,
    sampling.requests_at_once: 60,
    training.memory: 30,
    training.others: 60,
    training.compiled: 150,
}

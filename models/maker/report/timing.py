"""Measure how long the product takes for one image on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from perfusion_core.base_model import BaseModel
from perfusion_core.sampling.sampler import ImageRequest
from worker.engine.engine import Engine

_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Timing:
    """Seconds for one image, and the conditions of the measurement."""

    seconds: float  # median
    steps: int
    threads: int
    machine: str
    dtype: str

    @property
    def conditions(self) -> str:
        """The conditions in the card's words."""
        return f"{self.steps} guided steps, {self.threads} thread(s), {self.dtype}, {self.machine}"


def time_one_image(base: BaseModel, *, steps: int = 25, threads: int = 2, runs: int = 5) -> Timing:
    """Return the median time from request to pixels over `runs`, after one warm-up run.

    Raises:
        ValueError: no step would be guided, because the default guidance is 1 or less.
    """
    config = replace(base.defaults.generate_config(), num_inference_steps=steps, seed=1)
    if config.guidance_scale <= 1:
        raise ValueError(f"Guidance of {config.guidance_scale} guides nothing.")
    request = ImageRequest(prompt="a photo of a cat", config=config)
    took = []
    engine = Engine(lambda: base)
    with _threads(threads):
        engine.start()
        try:
            for _ in range(1 + runs):
                started = time.perf_counter()
                engine.submit(request).result()
                took.append(time.perf_counter() - started)
        finally:
            engine.stop()
    dtype = str(base.dtype).removeprefix("torch.")
    return Timing(statistics.median(took[1:]), steps, threads, _machine(base.device), dtype)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = _CPU_INFO.read_text().splitlines() if _CPU_INFO.exists() else []
    named = next((line for line in lines if line.startswith("model name")), "")
    return named.partition(":")[2].strip() or "an unnamed CPU"

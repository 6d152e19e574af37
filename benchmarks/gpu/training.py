"""Stages of benchmarks/gpu/__main__.py that train; each returns its figures."""

import copy
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.bench import SUPERCLASS, Bench, Figures, load, rate
from benchmarks.measure import Work, flops, in_rounds, peak_bytes, ratio, seconds
from benchmarks.rivals import Lora, TextualInversion
from perfusion_core import BaseModel, TrainConfig, train
from perfusion_core.sampling.sampler import generate
from perfusion_core.training.trainer import Training

_PLAIN = "a photo of a teddy on the beach"
_LONGEST_TRAINING_SECONDS = 120.0


def options(bench: Bench) -> Figures:
    """Measure a training step with each option that may help; those that do stay on."""
    training = bench.training(bench.size.batch)
    found: Figures = {"tflop_a_step": flops(lambda: next(training)) / 1e12, "seconds": {}}
    best = found["seconds"]["as it was loaded"] = _step_seconds(training, bench.size.timed_steps)
    for name, (switch_on, switch_off) in _switches(bench).items():
        switch_on()
        found["seconds"][name] = now = _step_seconds(training, bench.size.timed_steps)
        if now < 0.99 * best:
            best = now
        else:
            switch_off()
            found["seconds"][f"{name} (off again)"] = found["seconds"].pop(name)
    with _autocast(bench.base):
        found["seconds"]["float32 weights under autocast (off again)"] = _step_seconds(
            training, bench.size.timed_steps
        )
    return found | {"best_seconds": best, **rate(bench, found["tflop_a_step"], best)}


def whole_training(bench: Bench) -> Figures:
    """Measure a whole training, examples included, with the options that helped."""
    config = TrainConfig(max_train_steps=bench.size.steps, train_batch_size=bench.size.batch)

    expected = bench.figures.get("options", {}).get("best_seconds", 0.0) * bench.size.steps
    if expected > _LONGEST_TRAINING_SECONDS:
        return {"skipped": f"it would take {expected:.0f} s, extrapolated from `options`"}
    taken: list[float] = []

    def teach() -> None:
        training = train(
            bench.base, [bench.picture], name="x", superclass=SUPERCLASS, config=config
        )
        list(training)

    held = peak_bytes(lambda: taken.append(seconds(teach)))
    return {"seconds": taken[0], "peak_bytes": held}


def rivals(bench: Bench) -> Figures:
    """Compare a step with textual inversion's and LoRA's, in paired rounds."""
    ours = bench.training(bench.size.rival_batch)
    steps: dict[str, Work] = {"ours": lambda: next(ours)}
    for name, kind in (("textual inversion", TextualInversion), ("lora", Lora)):
        own = copy.deepcopy(bench.pipeline)
        own.text_encoder.float()
        steps[name] = kind(
            own, ours.examples.latents, batch=bench.size.rival_batch, superclass=SUPERCLASS,
            dtype=bench.base.dtype,
        ).step  # fmt: skip
    times = in_rounds(steps, bench.size.rounds)
    memory = {name: peak_bytes(step) for name, step in steps.items()}
    return {
        name: {
            "seconds": statistics.median(own),
            "peak_bytes": memory[name],
            "ours_takes_of_its_time": ratio(times["ours"], own),
            "ours_takes_of_its_memory": memory["ours"] / memory[name],
        }
        for name, own in times.items()
    }


def memory(bench: Bench) -> Figures:
    """Measure a training step's memory beyond the weights, by batch, whole and recomputing."""
    found: Figures = {"weights": _weights(bench.base)}
    for batch in (1, bench.size.batch):
        for recomputes in (False, True):
            training = bench.training(batch)
            training.loss.recomputes = recomputes
            found[f"batch {batch}{', recomputing' if recomputes else ''}"] = _costs(training)
    return found


def compiled(bench: Bench) -> Figures:
    """Measure compiling the U-Net for training, and a step after it."""
    found: Figures = {}
    for mode in bench.size.compile_modes:
        training = bench.training(bench.size.batch)
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        bench.base.unet.compile(mode=mode, dynamic=False)
        try:
            first = _step_seconds(training, 1, warm_up=0)
            taken = _step_seconds(training, bench.size.timed_steps)
        finally:
            bench.base.unet._compiled_call_impl = None
        tflop = bench.figures.get("options", {}).get("tflop_a_step")
        found[mode] = {
            "compiling_seconds": first,
            "seconds": taken,
            "graph_breaks": sum(torch._dynamo.utils.counters["graph_break"].values()),
            **rate(bench, tflop, taken),
        }
    return found


def others(bench: Bench) -> Figures:
    """Measure memory and time of other base models, each at the size that it was trained at."""
    found: Figures = {}
    for shape in bench.size.others:
        base, _ = load(shape, bench.device, bench.size.captions)
        config = bench.images(1)
        found[shape] = {
            "side": base.default_resolution,
            "weights": _weights(base),
            "step": _costs(bench.training(1, base)),
            "image_peak_bytes": peak_bytes(partial(generate, base, _PLAIN, config=config)),
        }
    return found


def _switches(bench: Bench) -> dict[str, tuple[Work, Work]]:
    unet = bench.base.unet

    def precision(name: str) -> Work:
        return lambda: torch.set_float32_matmul_precision(name)

    def tried(value: bool) -> Work:
        return lambda: setattr(torch.backends.cudnn, "benchmark", value)

    return {
        "channels-last": (
            lambda: unet.to(memory_format=torch.channels_last),
            lambda: unet.to(memory_format=torch.contiguous_format),
        ),
        "cudnn.benchmark": (tried(True), tried(False)),
        "TF32 in the text encoder and the edit": (precision("high"), precision("highest")),
    }


@contextmanager
def _autocast(base: BaseModel) -> Iterator[None]:
    """The U-Net's weights in float32, cast at each operation instead of once."""
    unet = base.unet.float()

    def cast(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(
            base.device.type, dtype=base.dtype, enabled=base.dtype != torch.float32
        ):
            return unet(*args, **kwargs)

    base.unet = cast
    try:
        yield
    finally:
        base.unet = unet.to(base.dtype)


def _step_seconds(training: Training, count: int, *, warm_up: int = 2) -> float:
    for _ in range(warm_up):
        next(training)
    return statistics.median(seconds(lambda: next(training)) for _ in range(count))


def _costs(training: Training) -> Figures:
    taken = _step_seconds(training, 2)
    return {"seconds": taken, "peak_bytes": peak_bytes(lambda: next(training))}


def _weights(base: BaseModel) -> Figures:
    modules = {"unet": [base.unet], "text": base.text.encoders, "vae": [base.vae]}
    return {
        name: sum(w.numel() * w.element_size() for module in own for w in module.parameters())
        for name, own in modules.items()
    }

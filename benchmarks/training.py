"""A training step compared with textual inversion's and LoRA's, as ratios measured side by side.

    python -m benchmarks.training [--base-model FOLDER] [--rounds N] [--steps N] [--batch N]
                                  [--compile]

Same latents, batch and prompts; each method has its own copy of the base model, as it would be
loaded. Every round runs each method's steps once, in turn; the median over rounds is printed. Then
where our step's time goes: operations counted, against the rate of a large matrix product here.
"""

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from benchmarks.measure import Work, flops, in_rounds, peak_bytes, ratio, seconds, traffic_bytes
from benchmarks.rivals import Lora, TextualInversion
from perfusion_core import BaseModel, train
from perfusion_core.training.trainer import Training

_SHIPPED = Path(__file__).parents[1] / "models" / "base"
_SUPERCLASS = "teddy"
_LARGE = 1536


def main() -> None:
    """Print the ratios, then where the time goes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-model", default=str(_SHIPPED))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="steps of each method in a round")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--compile", action="store_true", help="ours under torch.compile, too")
    arguments = parser.parse_args()

    base = BaseModel.load(arguments.base_model)
    print(
        f"base model {base.name} on {base.device}, {base.dtype}, batch {arguments.batch}, "
        f"{torch.get_num_threads()} threads, {arguments.rounds} rounds of {arguments.steps} steps"
    )
    ours = begin(base, arguments.batch)
    rivals = {
        name: kind(
            _pipeline(arguments.base_model, base), ours.examples.latents, batch=arguments.batch,
            superclass=_SUPERCLASS, dtype=base.dtype,
        )
        for name, kind in (("textual inversion", TextualInversion), ("LoRA rank 4", Lora))
    }  # fmt: skip
    steps: dict[str, Work] = {"ours": lambda: next(ours)}
    steps |= {name: rival.step for name, rival in rivals.items()}
    times = in_rounds(
        {name: _often(step, arguments.steps) for name, step in steps.items()}, arguments.rounds
    )
    memory = {name: peak_bytes(step) for name, step in steps.items()}
    counted = {name: flops(step) for name, step in steps.items()}
    for name, own in times.items():
        milliseconds = 1000 * statistics.median(own) / arguments.steps
        print(
            f"{name:18} {milliseconds:7.1f} ms a step, {counted[name] / 1e9:6.2f} GFLOP, "
            f"{memory[name] / 2**20:6.1f} MiB at most beyond the weights; ours is "
            f"{ratio(times['ours'], own):.2f} x its time, {memory['ours'] / memory[name]:.2f} x "
            "its memory"
        )

    _say_where_time_goes(base, ours, statistics.median(times["ours"]) / arguments.steps)
    if arguments.compile:
        _say_what_compiling_brings(arguments, ours)


def _say_what_compiling_brings(arguments: argparse.Namespace, ours: Training) -> None:
    # Every layer's width is a graph of its own; those beyond the limit are silently not compiled.
    torch._dynamo.config.recompile_limit = 64
    other = BaseModel.load(arguments.base_model)
    other.unet.forward = torch.compile(other.unet.forward)
    compiled = begin(other, arguments.batch)
    first = seconds(lambda: next(compiled))
    works: dict[str, Work] = {"ours": lambda: next(ours), "compiled": lambda: next(compiled)}
    times = in_rounds(
        {name: _often(step, arguments.steps) for name, step in works.items()}, arguments.rounds
    )
    print(
        f"under torch.compile the first step takes {first:.0f} s, each other one "
        f"{ratio(times['compiled'], times['ours']):.2f} x ours"
    )


def _say_where_time_goes(base: BaseModel, ours: Training, step_seconds: float) -> None:
    a, b = torch.randn(2, _LARGE, _LARGE, device=base.device, dtype=base.dtype)
    long = torch.randn(16 * _LARGE**2, device=base.device, dtype=base.dtype)
    rate = statistics.median(2 * _LARGE**3 / seconds(lambda: a @ b) for _ in range(5))
    there = long.clone()  # once, since a new copy would measure page faults, too
    width = statistics.median(
        2 * long.nbytes / seconds(lambda: there.copy_(long)) for _ in range(5)
    )
    operations, traffic = flops(lambda: next(ours)), traffic_bytes(lambda: next(ours))
    print(
        f"of our step: {operations / 1e9:.2f} GFLOP would take {1000 * operations / rate:.0f} ms "
        f"({100 * operations / rate / step_seconds:.0f} %) at the {rate / 1e9:.0f} GFLOP/s of a "
        f"{_LARGE} x {_LARGE} product; what its operations read and write, {traffic / 1e9:.2f} GB, "
        f"{1000 * traffic / width:.0f} ms ({100 * traffic / width / step_seconds:.0f} %) at the "
        f"{width / 1e9:.1f} GB/s of a large copy, if no cache helped"
    )


def _often(step: Work, count: int) -> Work:
    return lambda: [step() for _ in range(count)]


def begin(base: BaseModel, batch: int) -> Training:
    """Begin a training of ours that is longer than any measurement."""
    config = replace(base.defaults.train_config(), max_train_steps=20_000, train_batch_size=batch)
    side = base.default_resolution
    picture = Image.effect_noise((side, side), 64).convert("RGB")
    return train(base, [picture], name="x", superclass=_SUPERCLASS, config=config)


def _pipeline(folder: str, base: BaseModel) -> Any:
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    return pipeline.to(base.device)


if __name__ == "__main__":
    main()

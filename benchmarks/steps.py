"""Time of a training step and of a denoising step, as ratios measured side by side.

    python -m benchmarks.steps [--base-model FOLDER] [--rounds N] [--batch N] [--processor-time]

Every round runs each variant once, in turn, so that other load of the machine falls on all of them
alike. Ratios are taken within a round, and the median over rounds is printed.
On a CPU that is busy with other work, --processor-time with OMP_NUM_THREADS=1 counts the time
that this thread had.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import ratio
from benchmarks.staging import SHIPPED, image_request, picture, pipeline_of, seconds, untrained
from perfusion_core import BaseModel, Concept, GenerateConfig, train
from perfusion_core.conditioning import encode, keys_and_values, target_of, tokens_of
from perfusion_core.sampling.sampler import ImageRequest, start, step
from perfusion_core.sampling.trajectories import Batch
from perfusion_core.text.prompt import parse

_WARM_UP, _STEPS = 2, 6
_GUIDANCE = 5.0
OURS, OURS_IN_TORCH = "ours, 1 concept", "ours, 1 concept, in torch"
LORA = "diffusers and peft, 1 LoRA"
PLAIN = "plain diffusers pipeline"  # in the base model's precision, as all others are but this:
PLAIN_FLOAT32 = "plain diffusers pipeline in float32"


def main() -> None:
    """Print one line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-model", default=str(SHIPPED))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=1, help="images in one denoising step")
    parser.add_argument("--processor-time", action="store_true")
    arguments = parser.parse_args()
    clock = time.thread_time if arguments.processor_time else time.perf_counter

    base = BaseModel.load(arguments.base_model)
    concepts = [untrained(base, name) for name in ("teddy", "robot", "dog")]
    print(
        f"base model {base.name} on {base.device}, {base.dtype}, images by {base.backend.name} in "
        f"{base.backend.precision}, {arguments.rounds} rounds"
    )
    for dtype in ("float32", "float16"):
        print(f"concept file, {dtype}: {len(concepts[0].to_bytes(dtype)):,} bytes")
    _print_training_step(base, clock)
    works = variants(base, arguments.base_model, concepts, images=arguments.batch)
    times = compare(works, rounds=arguments.rounds, clock=clock)
    for name, own in times.items():
        print(
            f"denoising step with guidance, {name}: {1000 * statistics.median(own):.1f} ms, "
            f"{ratio(own, times[PLAIN]):.2f} x plain"
        )


def _print_training_step(base: BaseModel, clock: Callable[[], float]) -> None:
    long = replace(base.defaults.train_config(), max_train_steps=10_000)
    training = train(base, [picture(base)], name="x", superclass="teddy", config=long)
    took = [seconds(lambda: next(training), clock=clock) for _ in range(_WARM_UP + _STEPS)]
    batch = training.config.train_batch_size
    print(f"training step, batch {batch}: {1000 * statistics.median(took[_WARM_UP:]):.1f} ms")


def variants(
    base: BaseModel, base_model: str | Path, concepts: list[Concept], *, images: int
) -> dict[str, Callable[[int], object]]:
    """Return what is compared; each takes a number of steps, text and start included."""
    plain = pipeline_of(base_model, base)
    lora = pipeline_of(base_model, base, adapters=["lora"])

    def ours(used: list[Concept]) -> Callable[[int], object]:
        return lambda steps: _sample(base, image_request(used, _config(steps, images)))

    def in_torch(steps: int) -> None:
        chosen, base.backend = base.backend, base.eager
        try:
            ours(concepts[:1])(steps)
        finally:
            base.backend = chosen

    works: dict[str, Callable[[int], object]] = {}
    if base.dtype != torch.float32:
        full = pipeline_of(base_model, base).to(torch.float32)
        works[PLAIN_FLOAT32] = lambda steps: _run(full, steps, images)
    return works | {
        PLAIN: lambda steps: _run(plain, steps, images),
        "ours, no concept": lambda steps: _sample(
            base, ImageRequest(prompt="a photo", config=_config(steps, images))
        ),
        OURS: ours(concepts[:1]),
        "ours, 3 concepts": ours(concepts),
        OURS_IN_TORCH: in_torch,
        "the edit of 1 concept computed in each step": lambda steps: _sample_recomputed(
            base, image_request(concepts[:1], _config(steps, images))
        ),
        LORA: lambda steps: _run(lora, steps, images),
    }


def compare(
    works: Mapping[str, Callable[[int], object]],
    *,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return the seconds of a denoising step by name, a list of rounds."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for run in works.values():
        run(2)
    for _ in range(rounds):
        for name, run in works.items():
            # The difference of a long and a short run: text, edit and start cancel out.
            long, short = (seconds(partial(run, steps), clock=clock) for steps in (2 + _STEPS, 2))
            times[name].append((long - short) / _STEPS)
    return times


def _config(steps: int, images: int) -> GenerateConfig:
    return GenerateConfig(
        num_inference_steps=steps, guidance_scale=_GUIDANCE, seed=1, num_images=images
    )


def _run(pipeline: Any, steps: int, images: int) -> None:
    pipeline(["a photo of a teddy"] * images, num_inference_steps=steps, guidance_scale=_GUIDANCE,
             output_type="latent", generator=torch.Generator().manual_seed(1))  # fmt: skip


def _sample(base: BaseModel, wanted: ImageRequest) -> None:
    trajectories = start(base, wanted)
    batch = Batch(trajectories)
    while not trajectories[0].finished:
        step(base, batch)


def _sample_recomputed(base: BaseModel, wanted: ImageRequest) -> None:
    """Sample with the edit of every row and layer anew in each step, from fixed encodings."""
    targets = {name: target_of(base, use) for name, use in wanted.concepts.items()}
    prompts = [parse(""), parse(wanted.prompt)]
    trajectories = start(base, wanted)
    e = encode(base, tokens_of(base, prompts, targets), targets).e.detach()  # (2, N, d)
    rows: Tensor = e.repeat(len(trajectories), 1, 1)
    batch = Batch(trajectories)
    while not trajectories[0].finished:
        with torch.no_grad():
            batch.packed = keys_and_values(base, rows, list(targets.values())).to(base.dtype)
        step(base, batch)


if __name__ == "__main__":
    main()

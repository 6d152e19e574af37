"""Time of a training step and of a denoising step, as ratios measured side by side.

    python -m benchmarks.steps [--base-model FOLDER] [--rounds N] [--batch N]

Every round runs each variant once, in turn, so that whatever else the machine does falls on all
of them alike; the ratio of a round is taken within it, and the median over rounds is printed.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from perfusion_core import BaseModel, Concept, ConceptUse, GenerateConfig, TrainConfig, train
from perfusion_core.denoise import ImageRequest, start, step

SHIPPED = Path(__file__).parents[1] / "models" / "base"
_WARM_UP, _STEPS = 2, 6


def main() -> None:
    """Print one line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-model", default=str(SHIPPED))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=1, help="pictures in one denoising step")
    arguments = parser.parse_args()

    base = BaseModel.load(arguments.base_model)
    names = ("teddy", "robot", "dog")
    concepts = {name: _untrained(base, name) for name in names}
    print(f"base model {base.name} on {base.device}, {base.dtype}, {arguments.rounds} rounds")

    one = concepts["teddy"]
    for dtype in ("float32", "float16"):
        print(f"concept file, {dtype}: {len(one.to_bytes(dtype)):,} bytes")

    long = replace(base.defaults.train_config(), max_train_steps=10_000)
    training = train(base, [_picture()], name="x", superclass="teddy", config=long)
    batch = training.config.train_batch_size
    seconds = [_seconds(lambda: next(training)) for _ in range(_WARM_UP + _STEPS)][_WARM_UP:]
    print(f"training step, batch {batch}: {1000 * statistics.median(seconds):.1f} ms")

    pipeline = StableDiffusionPipeline.from_pretrained(arguments.base_model, dtype=base.dtype)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(base.device)
    variants: dict[str, Callable[[], float]] = {
        "plain diffusers pipeline": lambda: _pipeline_step(pipeline, arguments.batch),
        "ours, no concept": lambda: _our_step(base, "a photo", {}, arguments.batch),
        "ours, 1 concept": lambda: _our_step(base, "<teddy>", {"teddy": one}, arguments.batch),
        "ours, 3 concepts": lambda: _our_step(
            base, "<teddy> <robot> <dog>", concepts, arguments.batch
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    for measure in variants.values():
        measure()
    for _ in range(arguments.rounds):
        for name, measure in variants.items():
            times[name].append(measure())
    plain = times["plain diffusers pipeline"]
    for name, own in times.items():
        ratio = statistics.median(a / b for a, b in zip(own, plain, strict=True))
        print(
            f"denoising step with guidance, {name}: {1000 * statistics.median(own):.1f} ms, "
            f"{ratio:.2f} x plain"
        )


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def _pipeline_step(pipeline: StableDiffusionPipeline, batch: int) -> float:
    """Seconds per step of the whole pipeline: the difference of a long and a short run."""

    def run(steps: int) -> None:
        pipeline(["a photo of a teddy"] * batch, num_inference_steps=steps, guidance_scale=5.0,
                 output_type="latent", generator=torch.Generator().manual_seed(1))  # fmt: skip

    return (_seconds(lambda: run(2 + _STEPS)) - _seconds(lambda: run(2))) / _STEPS


def _our_step(base: BaseModel, prompt: str, concepts: dict[str, Concept], batch: int) -> float:
    """Seconds per step, by the same difference: text, edit and start cancel out."""
    uses = {name: ConceptUse(concept, beta=0.7) for name, concept in concepts.items()}

    def run(steps: int) -> None:
        config = GenerateConfig(
            num_inference_steps=steps, guidance_scale=5.0, seed=1, num_images=batch
        )
        trajectories = start(base, ImageRequest(prompt=prompt, concepts=uses, config=config))
        while not trajectories[0].finished:
            step(base, trajectories)

    return (_seconds(lambda: run(2 + _STEPS)) - _seconds(lambda: run(2))) / _STEPS


def _untrained(base: BaseModel, superclass: str) -> Concept:
    config = TrainConfig(max_train_steps=1, train_batch_size=1)
    return train(
        base, [_picture()], name=superclass, superclass=superclass, config=config
    ).concept()


def _picture() -> Image.Image:
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    return Image.fromarray(noise)


if __name__ == "__main__":
    main()

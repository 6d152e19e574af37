"""What bfloat16 does to trained concepts: the tuning subjects, taught in both precisions.

    OMP_NUM_THREADS=2 python -m benchmarks.backends.training [--seeds N ...] [--steps N]
                                                             [--sheet FILE]

Both concepts of a pair start alike and see the same pictures, noise and prompts. Each is sampled in
the precision that it was trained in, in the held-out prompts of benchmarks/taught.py. Image and
text are similarities, scene is the overlap with the plain superclass's image. The last lines have
the differences over all pairs: their mean, and the half width of its 95 % interval. The sheet has
the images of the last pair, float32 above bfloat16.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.paper import contact
from benchmarks.paper.measures import interval, scene_overlap
from benchmarks.paper.methods.perfusion import Perfusion, Superclass, usual_steps
from benchmarks.paper.subjects import TUNED, Subject, photograph
from benchmarks.taught import ALONE, Bench, bench_of, parser_of
from perfusion_core import BaseModel
from perfusion_core.devices.options import DeviceOptions

_FIRST_SEED = 7000


@dataclass(frozen=True)
class Found:
    """A concept's images, and their means over the prompts."""

    images: Sequence[Image.Image]
    figures: np.ndarray  # image, text, scene
    seconds: float  # of the training's steps


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each training, then the differences."""
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, help="default: the base model's own")
    parser.add_argument("--sheet", type=Path)
    asked = parser.parse_args(arguments)
    quick = bench_of(asked)
    full = replace(
        quick,
        base=BaseModel.load(asked.base_model, device_options=DeviceOptions(dtype="float32")),
    )
    differences: list[np.ndarray] = []
    pair: list[Found] = []
    for subject in TUNED:
        for seed in asked.seeds:
            pair = [
                _measure(bench, subject, seed=seed, steps=asked.steps, beta=asked.beta)
                for bench in (full, quick)
            ]
            for bench, found in zip((full, quick), pair, strict=True):
                image, text, scene = found.figures
                print(
                    f"{subject.name}, seed {seed}, {bench.base.backend.precision}: image "
                    f"{image:.3f}, text {text:.3f}, scene {scene:.3f}; {found.seconds:.0f} s",
                    flush=True,
                )
            differences.append(pair[1].figures - pair[0].figures)
    for name, own in zip(("image", "text", "scene"), np.transpose(differences), strict=True):
        mean, width = interval(own.tolist())
        print(f"{name}, bfloat16 less float32: {mean:+.3f} ± {width:.3f}")
    if asked.sheet:
        contact.write([found.images for found in pair], asked.sheet)


def _measure(bench: Bench, subject: Subject, *, seed: int, steps: int | None, beta: float) -> Found:
    base = bench.base
    photos = photograph(subject, side=base.default_resolution)
    method = Perfusion(base, schedule={steps or usual_steps(base): ()})
    (learned,) = method.learn(subject, photos, seed=seed)
    (plain,) = Superclass(base).learn(subject, photos, seed=seed)
    seeds = [_FIRST_SEED + k for k in range(len(ALONE))]
    images = learned.draw(ALONE, seeds, beta)
    texts = [prompt.format(subject.phrase) for prompt in ALONE]
    return Found(
        images=images,
        figures=np.array(
            [
                bench.similarity(images, subject),
                bench.text_similarity(images, texts),
                scene_overlap(images, plain.draw(ALONE, seeds, beta)),
            ]
        ),
        seconds=learned.seconds,
    )


if __name__ == "__main__":
    main()

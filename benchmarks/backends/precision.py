"""How far images in bfloat16 are from the same images in float32, in grey levels.

    OMP_NUM_THREADS=2 python -m benchmarks.backends.precision [--images N] [--sheet FILE]

Each image is computed three times with the same seed: by a graph in float32, by a graph in
bfloat16 alone, and by the graph in bfloat16 in a batch of eight. The sheet shows the images that
are furthest apart, float32 above bfloat16.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.staging import KINDS, SHIPPED
from perfusion_core import BaseModel
from perfusion_core.devices.options import DeviceOptions
from perfusion_core.sampling.sampler import generate

_AT_ONCE = 8
_PLACES = ("on the beach", "in the snow", "on a table", "at night", "in a garden")
_SHOWN = 8


def main() -> None:
    """Print the differences of all images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-model", default=str(SHIPPED))
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--sheet", type=Path)
    arguments = parser.parse_args()

    exact, quick = (
        BaseModel.load(
            arguments.base_model,
            device="cpu",
            device_options=DeviceOptions(dtype=dtype, backend="openvino"),
        )
        for dtype in ("float32", "auto")
    )
    print(f"{arguments.images} images, float32 and {quick.backend.precision}")
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    company: list[int] = []
    for k, prompt in enumerate(_prompts(arguments.images)):
        first = _AT_ONCE * k
        together = _images(quick, prompt, seed=first, count=_AT_ONCE)
        pairs += zip(_images(exact, prompt, seed=first, count=_AT_ONCE), together, strict=True)
        alone = _images(quick, prompt, seed=first, count=1)[0]
        company.append(int(np.abs(alone - together[0]).max()))
        print(f"\r{len(pairs)} images", end="", flush=True)
    print()
    largest = np.array([int(np.abs(a - b).max()) for a, b in pairs])
    means = np.array([np.abs(a - b).mean() for a, b in pairs])
    print(f"largest difference of an image: median {np.median(largest):.0f}, most {largest.max()}")
    print(f"mean difference of an image: median {np.median(means):.2f}, most {means.max():.2f}")
    print(f"alone and in a batch of {_AT_ONCE}, {len(company)} images: at most {max(company)}")
    if arguments.sheet:
        furthest = [pairs[i] for i in np.argsort(-means)[:_SHOWN]]
        rows = [np.concatenate([pair[row] for pair in furthest], axis=1) for row in (0, 1)]
        Image.fromarray(np.concatenate(rows).astype(np.uint8)).save(arguments.sheet)


def _prompts(images: int) -> list[str]:
    every = [f"a photo of a {kind} {place}" for place in _PLACES for kind in KINDS]
    return [every[k % len(every)] for k in range(max(1, images // _AT_ONCE))]


def _images(base: BaseModel, prompt: str, *, seed: int, count: int) -> list[np.ndarray]:
    config = base.defaults.generate_config({"seed": seed, "num_images": count})
    return [np.asarray(image, int) for image in generate(base, prompt, config=config)]


if __name__ == "__main__":
    main()

"""The peak memory of a random SDXL of full shape on the CPU: loading, a denoising step, training.

    python -m benchmarks.sdxl_memory [--side 512] [--dtype bfloat16]

The U-Net is built in its own dtype and the other parts in float32, with random weights, since no
real ones are here. Each figure is this process's `ru_maxrss` so far, so run nothing else in it.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image

from benchmarks import shapes
from perfusion_core.base_model import BaseModel
from perfusion_core.covariance.estimate import Covariance
from perfusion_core.rank_one import Metric
from perfusion_core.sampling import sampler
from perfusion_core.sampling.sampler import ImageRequest
from perfusion_core.training.trainer import train

LIMIT_BYTES = 20 * 2**30
_SPREAD = 0.02  # of random weights: small, so that nothing overflows in half precision


def peak_bytes() -> int:
    """Return the most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def random_sdxl(dtype: torch.dtype) -> Any:
    """Return a random pipeline of SDXL's full shape, its U-Net built in `dtype`."""
    with torch.device("meta"):
        pipeline = shapes.pipeline("sdxl")
    encoders = (pipeline.text_encoder, pipeline.text_encoder_2)
    for module in (pipeline.unet.to(dtype), pipeline.vae, *encoders):
        module.to_empty(device="cpu")
        for weight in module.parameters():
            torch.nn.init.normal_(weight, std=_SPREAD)
        for name, buffer in module.named_buffers():
            assert name.endswith("position_ids"), name
            buffer.copy_(torch.arange(buffer.shape[-1]))
    return pipeline


def load(dtype: torch.dtype) -> BaseModel:
    """Return the base model around it, with a covariance that costs nothing to estimate."""
    base = BaseModel.from_pipeline(random_sdxl(dtype), name="sdxl", device="cpu", dtype=dtype)
    C = torch.eye(base.encoding_width, dtype=torch.float64)
    base.covariance = Covariance(
        C=C, fingerprint="0" * 32, caption_count=0, condition_number=1.0, metric=Metric.of(C)
    )
    return base


def sampling_step(base: BaseModel, side: int) -> None:
    """One denoising step of one image with guidance: two rows of the U-Net."""
    options = {"width": side, "height": side, "num_inference_steps": 1, "seed": 1}
    config = base.defaults.generate_config(options)
    trajectories = sampler.start(base, ImageRequest(prompt="a photo of a teddy", config=config))
    sampler.step(base, trajectories)
    assert bool(trajectories[0].latents.isfinite().all())


def training_step(base: BaseModel, side: int) -> None:
    """One training step with a batch of one picture, its encoding included."""
    options = {"max_train_steps": 1, "train_batch_size": 1, "resolution": side, "flip": False}
    training = train(
        base,
        [Image.radial_gradient("L").resize((side, side)).convert("RGB")],
        name="x",
        superclass="teddy",
        config=base.defaults.train_config(options),
        templates=("a photo of a {}",),
    )
    for _ in training:
        pass


def main() -> None:
    """Print a line for each stage; end with 1 if the peak is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=512, help="pixels")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    arguments = parser.parse_args()
    made: list[BaseModel] = []
    stages: dict[str, Callable[[], object]] = {
        "loading": lambda: made.append(load(getattr(torch, arguments.dtype))),
        "denoising step": lambda: sampling_step(made[0], arguments.side),
        "training step": lambda: training_step(made[0], arguments.side),
    }
    for name, stage in stages.items():
        begun = time.perf_counter()
        stage()
        print(
            f"{name}: {time.perf_counter() - begun:.0f} s, peak so far "
            f"{peak_bytes() / 2**30:.2f} GiB",
            flush=True,
        )
    if peak_bytes() > LIMIT_BYTES:
        raise SystemExit(f"The peak is above {LIMIT_BYTES / 2**30:.0f} GiB.")


if __name__ == "__main__":
    main()

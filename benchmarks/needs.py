"""What base models need, counted on their shapes alone: operations, weights, kept activations.

    python -m benchmarks.needs [sd15] [sd21] [sdxl] [shipped]

Nothing is computed: tensors have shapes and no data, so this runs on any machine and says what a
GPU must do and hold at least. It leaves out an allocator's waste, what operations hold while they
run, and the text encoders' activations.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks import shapes
from benchmarks.measure import flops, kept_bytes
from benchmarks.shapes import Shape
from perfusion_core.attention import attach, cross_attention_layers, packed_width
from perfusion_core.conditioning import added_conditions

_SDXL_SIDE = 1024  # pixels


@dataclass(frozen=True)
class Needs:
    """One base model's needs at its own size, with its U-Net in half precision."""

    side: int  # pixels
    unet_bytes: int
    other_bytes: int  # text encoders and VAE, in float32
    kept_bytes: int  # for the backward pass, for each picture of a training's batch
    training_flops: int  # of the U-Net, for each picture of a training's batch
    denoising_flops: int  # of the U-Net, for each row of a denoising step


def needs(shape: Shape) -> Needs:
    """Count for one picture."""
    with torch.device("meta"):
        pipeline = shapes.pipeline(shape)
    with FakeTensorMode(), _half_precision():
        unet = shapes.unet(shape).requires_grad_(False)
        layers = cross_attention_layers(unet)
        attach(unet, layers)
        packed = torch.zeros(1, pipeline.tokenizer.model_max_length, packed_width(layers))
        learned = packed.clone().requires_grad_()
        with kept_bytes(unet.parameters()) as kept:
            prediction = _predict(unet, learned)
        backward = flops(lambda: prediction.sum().backward())
        others = [pipeline.vae, pipeline.text_encoder, getattr(pipeline, "text_encoder_2", None)]
        return Needs(
            side=int(unet.config.sample_size) * pipeline.vae_scale_factor,
            unet_bytes=_bytes(unet),
            other_bytes=sum(_bytes(other) for other in others if other is not None),
            kept_bytes=sum(kept),
            training_flops=backward + flops(lambda: _predict(unet, learned)),
            denoising_flops=flops(lambda: _without_gradients(lambda: _predict(unet, packed))),
        )


def _predict(unet: Any, packed: Tensor) -> Tensor:
    side = int(unet.config.sample_size)
    pooled = torch.zeros(1, 1280) if unet.config.addition_embed_type == "text_time" else None
    added = added_conditions(pooled, width=_SDXL_SIDE, height=_SDXL_SIDE, dtype=packed.dtype)
    latents = torch.zeros(1, int(unet.config.in_channels), side, side, dtype=packed.dtype)
    sample: Tensor = unet(
        latents, torch.zeros(1), encoder_hidden_states=packed, added_cond_kwargs=added or None
    ).sample
    return sample


@contextmanager
def _half_precision() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@torch.no_grad()
def _without_gradients(work: Callable[[], object]) -> None:
    work()


def _bytes(module: Any) -> int:
    return sum(weight.numel() * weight.element_size() for weight in module.parameters())


def main() -> None:
    """Print a line for each base model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", nargs="*", default=["sd15", "sd21", "sdxl"])
    arguments = parser.parse_args()
    if unknown := set(arguments.shapes) - set(get_args(Shape)):
        parser.error(f"{sorted(unknown)[0]!r} is none of {', '.join(get_args(Shape))}")
    for shape in arguments.shapes:
        one = needs(shape)
        print(
            f"{shape} at {one.side} px: U-Net {one.unet_bytes / 1e9:.3g} GB in half precision, "
            f"text and VAE {one.other_bytes / 1e9:.3g} GB in float32; training keeps "
            f"{one.kept_bytes / 1e9:.3g} GB and takes {one.training_flops / 1e12:.3g} TFLOP for "
            f"each picture of a batch; a denoising step takes "
            f"{one.denoising_flops / 1e12:.3g} TFLOP for each row",
            flush=True,
        )


if __name__ == "__main__":
    main()

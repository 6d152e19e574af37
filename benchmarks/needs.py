"""What base models need, counted on their shapes alone, and what cards of 8 to 24 GB do with them.

    python -m benchmarks.needs [sd15] [sd21] [sdxl] [shipped] [--cards] [--allocate]

Nothing is computed: tensors have shapes and no data, so this runs on any machine and says what a
GPU must do and hold at least. It leaves out an allocator's waste and the workspaces of kernels.
`--cards` prints the automatic choices on cards of 8 to 24 GB instead. `--allocate` computes a
denoising step and a decoded image with real data on the CPU, and compares what they held with the
figures that the automatic choices reckon with.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks import shapes
from benchmarks.measure import flops, held_bytes, kept_bytes, peak_bytes
from benchmarks.shapes import Shape
from perfusion_core.attention import attach, cross_attention_layers, packed_width
from perfusion_core.conditioning import added_conditions
from perfusion_core.defaults.families import family_defaults
from perfusion_core.devices import needs as reckoning
from perfusion_core.devices.plans import (
    choose_offload,
    images_at_once,
    plan_training,
    tile_side,
)

_SDXL_SIDE = 1024  # pixels
_FAMILIES: dict[Shape, str] = {"sd15": "sd1", "sd21": "sd2", "sdxl": "sdxl"}
CARDS = (8, 12, 16, 24)  # GB
_TAKEN = 700 * 2**20  # by CUDA's context and a desktop


@dataclass(frozen=True)
class Needs:
    """One base model's needs at its own size, with its U-Net in half precision."""

    side: int  # pixels
    unet_bytes: int
    other_bytes: int  # text encoders and VAE, in float32
    kept_bytes: int  # for the backward pass, for each picture of a training's batch
    training_bytes: int  # the most that a training step holds for one picture
    recomputing_bytes: int  # the same if activations are computed twice
    denoising_bytes: int  # the most that a denoising step holds for one row
    decoding_bytes: int  # the most that decoding one image holds, in float32
    encoding_bytes: int  # the most that encoding one picture holds, in float32
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
        training = held_bytes(lambda: _predict(unet, learned).sum().backward())
        denoising = held_bytes(lambda: _without_gradients(lambda: _predict(unet, packed)))
        training_flops = backward + flops(lambda: _predict(unet, learned))
        unet.enable_gradient_checkpointing()
        recomputing = held_bytes(lambda: _predict(unet, learned).sum().backward())
        unet.disable_gradient_checkpointing()
        side = int(unet.config.sample_size) * pipeline.vae_scale_factor
        torch.set_default_dtype(torch.float32)
        vae = type(pipeline.vae).from_config(pipeline.vae.config)
        latents = _latents(unet, torch.float32, channels=int(vae.config.latent_channels))
        pixels = torch.zeros(1, 3, side, side, dtype=torch.float32)
        return Needs(
            side=side,
            unet_bytes=_bytes(unet),
            other_bytes=sum(_bytes(other) for other in others if other is not None),
            kept_bytes=sum(kept),
            training_bytes=training,
            recomputing_bytes=recomputing,
            denoising_bytes=denoising,
            decoding_bytes=held_bytes(lambda: _without_gradients(lambda: vae.decode(latents))),
            encoding_bytes=held_bytes(lambda: _without_gradients(lambda: vae.encode(pixels))),
            training_flops=training_flops,
            denoising_flops=flops(lambda: _without_gradients(lambda: _predict(unet, packed))),
        )


def reckoned(shape: Shape, *, dtype: torch.dtype = torch.bfloat16) -> reckoning.Needs:
    """Return the figures that the automatic choices use for this shape."""
    with torch.device("meta"):
        pipeline = shapes.pipeline(shape)
    encoders = [pipeline.text_encoder, getattr(pipeline, "text_encoder_2", None)]
    return reckoning.needs_of(
        pipeline.unet, pipeline.vae, [each for each in encoders if each is not None], dtype=dtype
    )


def print_cards(shape: Shape) -> None:
    """Print, for each card, what the automatic choices do with a base model."""
    if shape not in _FAMILIES:
        raise SystemExit(f"The cards are for {', '.join(_FAMILIES)}.")
    of, side = reckoned(shape), _SDXL_SIDE if shape == "sdxl" else 512
    batch_size = family_defaults(_FAMILIES[shape]).train_config().train_batch_size
    for card in CARDS:
        free = card * 2**30 - _TAKEN
        offload = choose_offload(of, pixels=side**2, free=free)
        held = {"none": of.unet + of.text + of.vae, "text": of.unet + of.vae, "model": of.unet}
        resting = free - held[offload]
        decoding = free - of.vae if offload == "model" else resting
        together = images_at_once(of, pixels=side**2, free=decoding)
        tile = tile_side(of.decoding_per_pixel, free=decoding)
        plan = plan_training(
            of, pixels=side**2, batch_size=batch_size, free=resting,
            prompts=batch_size if offload == "none" else 0,
        )  # fmt: skip
        four = "yes" if of.step(side**2, rows=8) <= resting else "no"
        print(
            f"{shape} at {side} px, {card} GB: offload {offload}; besides the weights "
            f"{resting / 1e9:.3g} GB; four images in one batch: {four}; an image is decoded "
            f"{'as a whole' if together else f'in tiles of {tile} px'}, the largest whole image "
            f"has {tile} px; a training step of {batch_size} pictures takes {plan.parts} passes"
            f"{', computing activations twice' if plan.recomputes else ''}",
            flush=True,
        )


def print_allocated(shape: Shape) -> None:
    """Compare the reckoned figures with what real tensors held on the CPU, in float32.

    SDXL's U-Net is left out: `python -m benchmarks.sdxl_memory` has it.
    """
    of = reckoned(shape, dtype=torch.float32)
    with torch.device("meta"):
        made = shapes.pipeline(shape)
    side = int(made.unet.config.sample_size) * made.vae_scale_factor
    vae = type(made.vae).from_config(made.vae.config).requires_grad_(False)
    latents = torch.zeros(1, int(vae.config.latent_channels), side // 8, side // 8)

    def in_tiles() -> None:
        vae.use_tiling = True
        vae.tile_sample_min_size, vae.tile_latent_min_size = side // 2, side // 16
        vae.decode(latents)

    works: dict[str, tuple[int, Callable[[], object]]] = {
        "decoding an image": (of.decoding(side**2), lambda: vae.decode(latents)),
        "decoding it in tiles of half its side": (of.decoding((side // 2) ** 2), in_tiles),
    }
    if shape != "sdxl":
        unet = shapes.unet(shape).requires_grad_(False)
        layers = cross_attention_layers(unet)
        attach(unet, layers)
        packed = torch.zeros(1, made.tokenizer.model_max_length, packed_width(layers))
        step = of.step(side**2, rows=1)
        works["a denoising step of one row"] = (step, lambda: _predict(unet, packed))
    for name, (expected, work) in works.items():
        found = peak_bytes(partial(_without_gradients, work))
        print(
            f"{shape} at {side} px, {name}: reckoned {expected / 1e9:.3g} GB, held "
            f"{found / 1e9:.3g} GB ({found / expected:.2f} x)",
            flush=True,
        )


def _predict(unet: Any, packed: Tensor) -> Tensor:
    pooled = torch.zeros(1, 1280) if unet.config.addition_embed_type == "text_time" else None
    added = added_conditions(pooled, width=_SDXL_SIDE, height=_SDXL_SIDE, dtype=packed.dtype)
    sample: Tensor = unet(
        _latents(unet, packed.dtype, channels=int(unet.config.in_channels)),
        torch.zeros(1),
        encoder_hidden_states=packed,
        added_cond_kwargs=added or None,
    ).sample
    return sample


def _latents(unet: Any, dtype: torch.dtype, *, channels: int) -> Tensor:
    side = int(unet.config.sample_size)
    return torch.zeros(1, channels, side, side, dtype=dtype)


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


def _print_counted(shape: Shape) -> None:
    counted, of = needs(shape), reckoned(shape)
    pixels = counted.side**2
    compared = {
        "a training step, each picture": (counted.training_bytes, of.training(pixels)),
        "a training step computing twice": (counted.recomputing_bytes, of.recomputing(pixels)),
        "a denoising step, each row": (counted.denoising_bytes, of.step(pixels, rows=1)),
        "decoding an image": (counted.decoding_bytes, of.decoding(pixels)),
        "encoding a picture": (counted.encoding_bytes, of.encoding(pixels)),
    }
    print(
        f"{shape} at {counted.side} px: U-Net {counted.unet_bytes / 1e9:.3g} GB in half precision, "
        f"text and VAE {counted.other_bytes / 1e9:.3g} GB in float32; training keeps "
        f"{counted.kept_bytes / 1e9:.3g} GB and takes {counted.training_flops / 1e12:.3g} TFLOP "
        f"for each picture of a batch; a denoising step takes "
        f"{counted.denoising_flops / 1e12:.3g} TFLOP for each row",
        flush=True,
    )
    for name, (count, reckoned_bytes) in compared.items():
        print(
            f"  {name}: counted {count / 1e9:.3g} GB, reckoned {reckoned_bytes / 1e9:.3g} GB "
            f"({reckoned_bytes / count:.2f} x)",
            flush=True,
        )


def main() -> None:
    """Print what was asked for, for each base model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", nargs="*", default=["sd15", "sd21", "sdxl"])
    parser.add_argument("--cards", action="store_true", help="the automatic choices by card")
    parser.add_argument("--allocate", action="store_true", help="real tensors on the CPU")
    arguments = parser.parse_args()
    if unknown := set(arguments.shapes) - set(get_args(Shape)):
        parser.error(f"{sorted(unknown)[0]!r} is none of {', '.join(get_args(Shape))}")
    for shape in arguments.shapes:
        if arguments.cards:
            print_cards(shape)
        elif arguments.allocate:
            print_allocated(shape)
        else:
            _print_counted(shape)


if __name__ == "__main__":
    main()

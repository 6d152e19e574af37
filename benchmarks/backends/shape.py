"""Time of a guided step in the shape of a base model: our backends and plain diffusers.

    OMP_NUM_THREADS=2 python -m benchmarks.backends.shape [--shape sd15] [--images N] [--rounds N]

The weights are random, because time depends on shapes alone. Plain diffusers is its U-Net in
float32 with ordinary encodings. Every round runs each variant once, in turn, and ratios are taken
within a round. A variant that this machine cannot build is left out, and a line says why.
"""

import argparse
import statistics
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch

from benchmarks import shapes
from benchmarks.measure import Work, in_rounds, ratio
from perfusion_core.attention import attach, cross_attention_layers, packed_width
from perfusion_core.backends.backend import EagerBackend, example_input
from perfusion_core.backends.openvino_graph import OpenVinoBackend, Precision, knows_bfloat16

_PLAIN = "diffusers in float32"
_TOKENS = 77


def main() -> None:
    """Print one line for each variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=["shipped", *shapes.UNETS], default="sd15")
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=11)
    arguments = parser.parse_args()
    works = _variants(shapes.unet(arguments.shape).eval().requires_grad_(False), arguments.images)
    times = in_rounds(works, arguments.rounds)
    print(
        f"guided step, {arguments.shape}, {arguments.images} images, "
        f"{torch.get_num_threads()} threads, {arguments.rounds} rounds"
    )
    for name, own in times.items():
        took = 1000 * statistics.median(own)
        print(f"{name}: {took:.0f} ms, {ratio(own, times[_PLAIN]):.2f} x {_PLAIN}")


def _variants(unet: Any, images: int) -> dict[str, Work]:
    layers = cross_attention_layers(unet)
    width = packed_width(layers)
    rows = example_input(
        unet,
        rows=2 * images,
        side=int(unet.config.sample_size),
        tokens=_TOKENS,
        packed_width=width,
    )
    encoding = torch.randn(2 * images, _TOKENS, unet.config.cross_attention_dim)

    @torch.no_grad()
    def plain() -> object:
        return unet(
            rows.latents,
            rows.timesteps,
            encoder_hidden_states=encoding,
            added_cond_kwargs=dict(rows.added) or None,
        ).sample

    ours = deepcopy(unet).to(memory_format=torch.channels_last)
    attach(ours, layers)
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    if not knows_bfloat16():
        precisions = precisions[:1]
        print("bfloat16 is left out: this CPU does not know it")
    works: dict[str, Work] = {_PLAIN: plain, "ours in torch": _run(EagerBackend(ours), rows)}
    for precision in precisions:
        graph = OpenVinoBackend(ours, packed_width=width, precision=precision)
        works[f"ours as a graph in {precision}"] = _run(graph, rows)
    return works


def _run(backend: Callable[[Any], object], rows: Any) -> Work:
    return lambda: backend(rows)


if __name__ == "__main__":
    main()

"""What a device with so much free memory does: what it offloads, decodes and trains at once.

The plans follow from `Needs`. They leave room for an allocator's waste and for the workspaces of
kernels. A plan that was too optimistic is no failure: smaller batches follow an out-of-memory
error.
"""

import math
from dataclasses import dataclass
from typing import Literal

from perfusion_core.devices.needs import Needs

# The share of free memory that is planned with, and the factor by which activations may exceed
# their reckoned size.
_USABLE = 0.92
_WASTE = 1.3
# An image is decoded together with others only if all together take at most this share of free
# memory: beyond that, decoding together saves no time.
_SHARE_OF_IMAGES = 0.125
SMALLEST_TILE = 256
"""The smallest side of a tile in pixels. Smaller tiles would see too little of the image."""
_TILE_STEP = 64

Placement = Literal["none", "text", "model"]


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How a training step of a batch is computed: in how many passes, and whether it recomputes."""

    parts: int = 1
    recomputes: bool = False


def choose_offload(needs: Needs, *, pixels: int, free: int | None) -> Placement:
    """Return what has to leave a device with `free` bytes, before any weight is on it.

    The base model, one image of `pixels` and a training step of one picture have to fit. None is
    enough memory.
    """
    if free is None:
        return "none"
    usable = free * _USABLE
    decoding = _WASTE * needs.decoding(pixels)
    tile = _WASTE * needs.decoding(min(pixels, SMALLEST_TILE**2))
    image = _WASTE * needs.step(pixels)
    training = _WASTE * needs.recomputing(pixels)
    everything = needs.unet + needs.text + needs.vae
    if everything + max(decoding, image, training + _WASTE * needs.text_graph) <= usable:
        return "none"
    text = needs.text + _WASTE * needs.text_graph
    if needs.unet + needs.vae + max(text, tile, image, training) <= usable:
        return "text"
    return "model"


def choose_attention(needs: Needs, *, pixels: int, free: int | None) -> Literal["sdpa", "sliced"]:
    """Return `sliced` if the scores of one image's attention take too much of the free memory."""
    if free is None or _WASTE * needs.step(pixels) + needs.unet <= free * _USABLE:
        return "sdpa"
    return "sliced"


def images_at_once(needs: Needs, *, pixels: int, free: int | None) -> int:
    """Return how many images are decoded together; 0 means that not even one fits as a whole."""
    if free is None:
        return 1
    each = _WASTE * needs.decoding(pixels)
    if each > free * _USABLE:
        return 0
    return max(1, int(free * _SHARE_OF_IMAGES / each))


def encodes_as_a_whole(needs: Needs, *, pixels: int, free: int | None) -> bool:
    """Return whether the VAE can encode a picture without tiles."""
    return free is None or _WASTE * needs.encoding(pixels) <= free * _USABLE


def tile_side(bytes_per_pixel: float, *, free: int | None) -> int:
    """Return the side in pixels of the largest square tile that fits into the free memory."""
    fitting = math.isqrt(int((free or 0) * _USABLE / (_WASTE * bytes_per_pixel)))
    return max(SMALLEST_TILE, fitting // _TILE_STEP * _TILE_STEP)


def plan_training(
    needs: Needs, *, pixels: int, batch_size: int, free: int | None, prompts: int = 0
) -> TrainingPlan:
    """Return the plan of a training's steps on a device with `free` bytes beyond the weights.

    `prompts` is the number of prompts whose text encoding is kept during a step.
    """
    if free is None:
        return TrainingPlan()
    usable = free * _USABLE - _WASTE * needs.text_graph * prompts
    if (examples := int(usable / (_WASTE * needs.training(pixels)))) >= 1:
        return TrainingPlan(parts=-(-batch_size // min(examples, batch_size)))
    examples = max(1, int(usable / (_WASTE * needs.recomputing(pixels))))
    return TrainingPlan(parts=-(-batch_size // min(examples, batch_size)), recomputes=True)

"""What the stages of benchmarks/gpu/stages.py share: how much is measured, and on what."""

import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from PIL import Image

from benchmarks import shapes
from benchmarks.shapes import Shape
from benchmarks.staging import SHIPPED
from perfusion_core import BaseModel, ConceptUse, GenerateConfig, TrainConfig, train
from perfusion_core.backends.choice import choose_backend
from perfusion_core.covariance.captions import captions
from perfusion_core.devices.options import AUTO
from perfusion_core.training.trainer import Training

SUPERCLASS = "teddy"

Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    shape: Shape = "sd15"
    others: tuple[Shape, ...] = ("sdxl",)
    matrix: int = 8192
    captions: int = 2_000
    steps: int = 400
    batch: int = 16
    timed_steps: int = 8
    rival_batch: int = 4
    rounds: int = 5
    image_steps: int = 25
    images: tuple[int, ...] = (1, 2, 4, 8, 16)
    rows: tuple[int, ...] = (2, 8, 16, 32)
    tenants: tuple[int, ...] = (1, 100, 1_000, 10_000)
    tenant_requests: int | None = None  # at each number of tenants; None: benchmarks/servers' own
    requests: int = 16
    compile_modes: tuple[str, ...] = ("default", "max-autotune-no-cudagraphs")


DRY = Size(
    shape="tiny", others=("tiny", "shipped"), matrix=64, captions=200, steps=3, batch=2,
    timed_steps=1, rival_batch=1, rounds=1, image_steps=2, images=(1, 2), requests=2,
    rows=(1, 2), tenants=(1, 3), tenant_requests=2, compile_modes=(),
)  # fmt: skip


@dataclass
class Bench:
    """What the stages share."""

    size: Size
    device: torch.device
    pipeline: Any  # diffusers' own, in the base model's precision
    base: BaseModel
    picture: Image.Image
    figures: Figures = field(default_factory=dict)

    @cached_property
    def shipped(self) -> BaseModel:
        """The shipped base model, as the product loads it."""
        return BaseModel.load(SHIPPED, device=str(self.device))

    def training(self, batch: int, base: BaseModel | None = None) -> Training:
        """A training that is longer than any measurement."""
        config = TrainConfig(max_train_steps=20_000, train_batch_size=batch)
        return train(
            base or self.base, [self.picture], name="x", superclass=SUPERCLASS, config=config
        )

    def concept(self) -> ConceptUse:
        """An untrained concept, with which drawing costs as much as with any."""
        return ConceptUse(self.training(1).concept(), beta=0.7)

    def images(self, count: int) -> GenerateConfig:
        """How images are drawn."""
        return GenerateConfig(
            num_inference_steps=self.size.image_steps, guidance_scale=7.5, num_images=count, seed=1
        )


def load(shape: Shape, device: torch.device, caption_count: int) -> tuple[BaseModel, Any]:
    """A base model, and a diffusers pipeline of the same weights in its precision."""
    with torch.device(device):
        pipeline = shapes.pipeline(shape)
    plain = copy.deepcopy(pipeline)
    base = BaseModel.from_pipeline(pipeline, name=shape, device=str(device))
    base.estimate_covariance(captions(caption_count, known=base.knows_word))
    base.backend = choose_backend(
        base.unet, AUTO, device=base.device, packed_width=base.packed_width
    )
    return base, plain.to(base.device, base.dtype)


def rate(bench: Bench, tflop: float | None, taken: float) -> Figures:
    """Return how much of the card's matrix rate was reached, if both are known."""
    rates = bench.figures.get("matrix", {}).get("tflops_a_second")
    if tflop is None or rates is None:
        return {}
    own = tflop / taken
    half = rates[str(torch.bfloat16).removeprefix("torch.")]
    return {"tflops_a_second": own, "of_the_cards_bfloat16_rate": own / half}

"""What several benchmarks share: concepts that cost as trained ones do, and diffusers' pipelines.

Pipelines are as diffusers loads them. LoRA is peft's, of rank 4 on every attention projection of
the U-Net, and unfused, since the next request may want another one.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from PIL import Image

from perfusion_core import BaseModel, Concept, ConceptUse, GenerateConfig, TrainConfig, train
from perfusion_core.sampling.sampler import ImageRequest

SHIPPED = Path(__file__).parents[1] / "models" / "base"
KINDS = (
    "teddy robot dog car cat house bird tree boat fish chair cup hat shoe ball apple"
).split()  # fmt: skip
_RANK = 4
_PROJECTIONS = ["to_q", "to_k", "to_v", "to_out.0"]


def untrained(base: BaseModel, superclass: str) -> Concept:
    """A concept before its first step: another name, the superclass's encoding and Values."""
    config = TrainConfig(max_train_steps=1, train_batch_size=1)
    return train(
        base, [picture(base)], name=superclass, superclass=superclass, config=config
    ).concept()


def picture(base: BaseModel) -> Image.Image:
    """A picture of noise, of the base model's own size."""
    side = base.default_resolution
    noise = np.random.default_rng(1).integers(0, 255, (side, side, 3), np.uint8)
    return Image.fromarray(noise)


def image_request(concepts: Sequence[Concept], config: GenerateConfig) -> ImageRequest:
    """A prompt that names all of the concepts."""
    return ImageRequest(
        prompt=" ".join(f"<{concept.name}>" for concept in concepts),
        concepts={concept.name: ConceptUse(concept, beta=0.7) for concept in concepts},
        config=config,
    )


def pipeline_of(folder: str | Path, base: BaseModel, *, adapters: Sequence[str] = ()) -> Any:
    """Diffusers' pipeline, with a LoRA adapter of random weights under each name."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=base.dtype)
    pipeline.set_progress_bar_config(disable=True)
    for name in adapters:
        config = LoraConfig(
            r=_RANK, lora_alpha=_RANK, target_modules=_PROJECTIONS, init_lora_weights=False
        )
        pipeline.unet.add_adapter(config, adapter_name=name)
    if adapters:
        pipeline.unet.set_adapters([adapters[0]])
    return pipeline.to(base.device)


def seconds(work: Callable[[], object], *, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return how long `work` takes by `clock`, the device's part included."""
    begun = clock()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - begun

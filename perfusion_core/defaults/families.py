"""The defaults of a family of base models, where the base model itself brings none.

A base model may have a `perfusion.json` (config.py), whose values come before these. No value of
this module was measured on real weights: each one is the paper's, diffusers' own or follows from
counted work, and its comment says which. This module does not import torch.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from perfusion_core.config import BaseModelDefaults
from perfusion_core.errors import BaseModelError

FAMILY_DEFAULTS: Mapping[str, BaseModelDefaults] = MappingProxyType(
    {
        # TrainConfig's own defaults are the paper's values for this family: 400 steps of 16
        # pictures, rates 0.03 and 0.006. The resolution is the base model's own, 512 px.
        "sd1": BaseModelDefaults(),
        # The U-Net, its work and its memory are those of SD 1.x (`python -m benchmarks.needs`), so
        # the paper's values are the best guess. Models of 768 px say so themselves.
        "sd2": BaseModelDefaults(),
        "sdxl": BaseModelDefaults(
            train={
                # A picture of a step is 14.3 TFLOP where SD 1.5 has 1.72, and keeps 5.1 GB where
                # SD 1.5 keeps 0.74. 400 steps of 4 pictures are twice the work of SD 1.5's whole
                # training; 400 steps of 16 would be eight times. If 4 pictures do not fit into
                # memory, the loss passes fewer at once and accumulates their gradients
                # (training/loss.py), with the same result.
                "train_batch_size": 4,
            },
            # The default of diffusers' StableDiffusionXLPipeline.
            generate={"guidance_scale": 5.0},
        ),
    }
)
"""Overrides of TrainConfig's and GenerateConfig's defaults by family."""


def family_defaults(family: str) -> BaseModelDefaults:
    """Return the defaults of a family; a family without an entry has the paper's values."""
    return FAMILY_DEFAULTS.get(family, BaseModelDefaults())


def family_of(pipeline: Any) -> str:
    """Return sd1, sd2 or sdxl; raises BaseModelError for a pipeline of another kind."""
    if not hasattr(pipeline, "unet") or not hasattr(pipeline, "text_encoder"):
        raise BaseModelError(
            f"{type(pipeline).__name__} is not supported: use a model of the Stable Diffusion "
            "1.x, 2.x or XL families."
        )
    if getattr(pipeline, "text_encoder_2", None) is not None:
        return "sdxl"
    return "sd2" if pipeline.unet.config.cross_attention_dim == 1024 else "sd1"

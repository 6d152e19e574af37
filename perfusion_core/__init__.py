"""Perfusion: Key-Locked Rank One Editing for text-to-image personalisation.

    base = BaseModel.load("models/base")
    training = train(base, pictures, name="rex", superclass="robot")
    for step in training:
        print(step)
    rex = training.concept()
    images = generate(base, "a photo of <rex> on the beach", concepts={"rex": ConceptUse(rex, 0.7)})

Names that need torch are imported at their first use, so that a server without a device can read
concept files and prompts.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from perfusion_core.concept import Concept
from perfusion_core.config import GenerateConfig, TrainConfig
from perfusion_core.errors import PerfusionError

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel
    from perfusion_core.conditioning import ConceptUse
    from perfusion_core.sampling.sampler import generate
    from perfusion_core.training.trainer import train

__all__ = [
    "BaseModel",
    "Concept",
    "ConceptUse",
    "GenerateConfig",
    "PerfusionError",
    "TrainConfig",
    "generate",
    "train",
]

_LAZY = {
    "BaseModel": "perfusion_core.base_model",
    "ConceptUse": "perfusion_core.conditioning",
    "generate": "perfusion_core.sampling.sampler",
    "train": "perfusion_core.training.trainer",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

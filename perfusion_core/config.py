"""Every hyper-parameter of the method: its default, bounds and meaning. Does not import torch.

Defaults are the paper's for Stable Diffusion 1.5 at 512 px. A base model of another size needs
other defaults, so the folder of a base model may contain a `perfusion.json` with overrides
(BaseModelDefaults).
"""

import json
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from perfusion_core.errors import BaseModelError

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

Locking = Literal["local", "global"]
Gates = Literal["apart", "published"]
SchedulerName = Literal["ddim", "dpmpp_2m", "euler", "unipc"]
MAX_SEED = 2**32 - 1
MAX_PROMPT_LENGTH = 2000  # characters
_SMALLEST_SIDE, _LARGEST_SIDE, _SIDE_STEP = 32, 2048, 8

DEFAULTS_FILE = "perfusion.json"

MAX_SIDES = 2
"""The limit of a size, in the base model's own sides: an image or a training has at most as many
pixels as a square with this many times the base model's side. Larger images repeat their subject,
and a step of a larger image would delay all other requests."""

MAX_STEP_IMAGES = 64
"""The limit of a training step's pixels, in images of the base model's own size. It equals the
largest train_batch_size."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TrainConfig:
    """The options of a training (METHOD 5)."""

    max_train_steps: Annotated[int, Field(ge=1, le=20_000, description="Optimiser steps.")] = 400
    train_batch_size: Annotated[
        int, Field(ge=1, le=64, description="Pictures, with their own noise, in one step.")
    ] = 16
    learning_rate: Annotated[
        float, Field(gt=0, le=1, description="AdamW's rate for the target outputs o*_V.")
    ] = 0.03
    embedding_learning_rate: Annotated[
        float, Field(ge=0, le=1, description="AdamW's rate for the placeholder's embedding.")
    ] = 0.006
    background_weight: Annotated[
        float,
        Field(
            ge=0,
            le=100,
            description="How firmly what surrounds the object stays as the superclass's word draws "
            "it; 0 leaves it free, as in the paper.",
        ),
    ] = 0.0
    beta: Annotated[float, Field(ge=-2, le=3, description="Bias of the gate while training.")] = (
        0.75
    )
    tau: Annotated[
        float, Field(gt=0, le=2, description="Temperature of the gate while training.")
    ] = 0.1
    ema_decay: Annotated[
        float, Field(ge=0, lt=1, description="Decay of i*, the running mean of encodings.")
    ] = 0.99
    flip: Annotated[
        bool, Field(description="Also train on the mirrored pictures; off where left differs.")
    ] = True
    seed: Annotated[
        int, Field(ge=0, le=MAX_SEED, description="Same seed and pictures: same concept.")
    ] = 0
    resolution: Annotated[
        int | None,
        Field(
            ge=_SMALLEST_SIDE,
            le=_LARGEST_SIDE,
            multiple_of=_SIDE_STEP,
            description="Side in pixels; null: the base model's.",
        ),
    ] = None
    early_stopping: Annotated[
        bool,
        Field(
            description="Where an evaluator judges the training: keep its best state, and stop "
            "when it does not get better any more."
        ),
    ] = True


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class GenerateConfig:
    """The options of sampling (METHOD 6)."""

    negative_prompt: Annotated[
        str, Field(max_length=MAX_PROMPT_LENGTH, description="What guidance steers away from.")
    ] = ""
    num_images: Annotated[
        int, Field(ge=1, le=16, description="Image k is sampled from seed + k.")
    ] = 1
    seed: Annotated[
        int | None, Field(ge=0, le=MAX_SEED, description="null: drawn at random, and told.")
    ] = None
    num_inference_steps: Annotated[int, Field(ge=1, le=200, description="Denoising steps.")] = 50
    guidance_scale: Annotated[
        float, Field(ge=0, le=30, description="Classifier-free guidance; 1 or less: none.")
    ] = 7.5
    width: Annotated[
        int | None,
        Field(
            ge=_SMALLEST_SIDE,
            le=_LARGEST_SIDE,
            multiple_of=_SIDE_STEP,
            description="Pixels; null: the base model's.",
        ),
    ] = None
    height: Annotated[
        int | None,
        Field(
            ge=_SMALLEST_SIDE,
            le=_LARGEST_SIDE,
            multiple_of=_SIDE_STEP,
            description="Pixels; null: the base model's.",
        ),
    ] = None
    scheduler: Annotated[
        SchedulerName, Field(description="The sampler, by the field's short names.")
    ] = "ddim"
    locking: Annotated[
        Locking,
        Field(
            description="local: only the concept's own encoding takes the superclass's Key; "
            "global: every Key is computed from the prompt with superclasses in place."
        ),
    ] = "local"
    gates: Annotated[
        Gates,
        Field(
            description="apart: a word that belongs to one concept does not open another's gate; "
            "published: the paper's equation to the letter."
        ),
    ] = "apart"


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class BaseModelDefaults:
    """A base model's overrides of TrainConfig's and GenerateConfig's defaults, by field name."""

    train: dict[str, Any] = field(default_factory=dict)
    generate: dict[str, Any] = field(default_factory=dict)

    def train_config(self, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
        """Return a TrainConfig: the defaults, then the base model's values, then `overrides`."""
        return TrainConfig(**{**self.train, **(overrides or {})})

    def generate_config(self, overrides: Mapping[str, Any] | None = None) -> GenerateConfig:
        """Return a GenerateConfig: the defaults, then the base model's values, then `overrides`."""
        return GenerateConfig(**{**self.generate, **(overrides or {})})


def read_defaults(folder: str | Path) -> BaseModelDefaults:
    """Return the overrides in a base model's folder; none if the folder has no perfusion.json.

    Raises BaseModelError if the file is not valid JSON, names an unknown field or breaks a bound.
    """
    file = Path(folder) / DEFAULTS_FILE
    if not file.is_file():
        return BaseModelDefaults()
    try:
        defaults = BaseModelDefaults(**json.loads(file.read_text("utf-8")))
        defaults.train_config()
        defaults.generate_config()
    except (ValueError, TypeError) as error:
        raise BaseModelError(
            f"{DEFAULTS_FILE} in the base model's folder is not valid: it may hold "
            '{"train": {...}, "generate": {...}} with the options of this release.'
        ) from error
    return defaults


def max_pixels(resolution: int) -> dict[str, int]:
    """Return the most pixels of an image and a training step, by the base model's side length."""
    return {
        "generate": (MAX_SIDES * resolution) ** 2,
        "train": MAX_STEP_IMAGES * resolution**2,
    }


def max_sides(resolution: int) -> dict[str, dict[str, int]]:
    """Return the largest value of each size option when the other size options are smallest."""
    most = max_pixels(resolution)["generate"]
    side = min(_LARGEST_SIDE, most // _SMALLEST_SIDE // _SIDE_STEP * _SIDE_STEP)
    square = min(_LARGEST_SIDE, MAX_SIDES * resolution // _SIDE_STEP * _SIDE_STEP)
    return {"generate": {"width": side, "height": side}, "train": {"resolution": square}}


def too_large(config: TrainConfig | GenerateConfig, *, resolution: int) -> dict[str, str]:
    """Return the options too large for a base model's side length, each with a sentence."""
    most = max_pixels(resolution)
    if isinstance(config, GenerateConfig):
        width, height = config.width or resolution, config.height or resolution
        if width * height <= most["generate"]:
            return {}
        sentence = (
            f"{width} x {height} is too large for this base model: width times height may be at "
            f"most {most['generate']}."
        )
        own = {"width": config.width, "height": config.height}
        return {name: sentence for name, side in own.items() if side is not None}
    side = config.resolution or resolution
    if side > (largest := max_sides(resolution)["train"]["resolution"]):
        return {"resolution": f"This may be at most {largest} for this base model."}
    if config.train_batch_size * side**2 > most["train"]:
        return {
            "train_batch_size": f"With pictures of {side} x {side} this may be at most "
            f"{most['train'] // side**2} for this base model."
        }
    return {}

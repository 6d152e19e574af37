"""Every hyper-parameter of the method: its default, bounds and meaning. Does not import torch.

Defaults are the paper's for Stable Diffusion 1.5 at 512 px. A base model of another size needs
other defaults: defaults/families.py has those of each family, and the folder of a base model may
contain a `perfusion.json` with its own (BaseModelDefaults).
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
Positions = Literal["all", "content", "one-per-caption"]
"""The positions of captions that count in the covariance: all; those of the caption's own tokens,
without begin, end and padding; or one of these, drawn at random for each caption."""
SchedulerName = Literal[
    "auto", "ddim", "dpmpp_2m", "dpmpp_2m_karras", "euler", "euler_a", "euler_karras", "lcm", "tcd",
    "unipc",
]  # fmt: skip
Prediction = Literal["epsilon", "v_prediction", "sample"]
MAX_SEED = 2**32 - 1
MAX_PROMPT_LENGTH = 2000  # characters
SMALLEST_SIDE, LARGEST_SIDE, SIDE_STEP = 32, 2048, 8

_STRENGTH_WITH_MASK, _STRENGTH_WITHOUT_MASK = 1.0, 0.7

DEFAULTS_FILE = "perfusion.json"


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
            ge=SMALLEST_SIDE,
            le=LARGEST_SIDE,
            multiple_of=SIDE_STEP,
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
    fit_embedding: Annotated[
        bool,
        Field(
            description="Start the placeholder's embedding from a fit to the superclass's "
            "encoding instead of from its last token; no difference for one token."
        ),
    ] = False
    hold_embedding_norm: Annotated[
        bool,
        Field(
            description="After each step, scale the placeholder's embedding back to the length "
            "that it started with."
        ),
    ] = False
    scale_embedding_rate: Annotated[
        bool,
        Field(
            description="Multiply embedding_learning_rate by the deviation of the base model's "
            "word embeddings, in units of the shipped model's, so that one value moves the "
            "embedding by the same share on every encoder."
        ),
    ] = False
    min_snr_gamma: Annotated[
        float | None,
        Field(
            gt=0,
            le=1000,
            description="Weight each time by its signal-to-noise ratio, cut at this value "
            "(Min-SNR, usually 5); null: all times count alike, as in the paper.",
        ),
    ] = None


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
    guidance_rescale: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="How far guidance keeps the prediction's contrast, against overexposure; "
            "0.7 suits models with a terminal SNR of zero.",
        ),
    ] = 0.0
    width: Annotated[
        int | None,
        Field(
            ge=SMALLEST_SIDE,
            le=LARGEST_SIDE,
            multiple_of=SIDE_STEP,
            description="Pixels; null: the base model's.",
        ),
    ] = None
    height: Annotated[
        int | None,
        Field(
            ge=SMALLEST_SIDE,
            le=LARGEST_SIDE,
            multiple_of=SIDE_STEP,
            description="Pixels; null: the base model's.",
        ),
    ] = None
    scheduler: Annotated[
        SchedulerName,
        Field(
            description="The sampler, by the field's short names; auto: the base model's own, "
            "which `GET /models` names."
        ),
    ] = "auto"
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
class EditConfig:
    """The options of an edit of a picture; the other options are those of GenerateConfig."""

    denoising_strength: Annotated[
        float | None,
        Field(
            gt=0,
            le=1,
            description="How much changes: the share of the denoising that is done anew. null: 1 "
            "inside a mask, 0.7 without a mask.",
        ),
    ] = None
    mask_feather: Annotated[
        int,
        Field(
            ge=0,
            le=512,
            description="Width of the soft edge in pixels of the picture; it lies inside the white "
            "of the mask, so the black keeps every pixel.",
        ),
    ] = 8
    mask_margin: Annotated[
        int,
        Field(
            ge=0,
            le=2048,
            description="Pixels of the picture around the mask that the base model also sees.",
        ),
    ] = 32
    keep_background: Annotated[
        bool,
        Field(
            description="Keep the picture inside the mask, too, around what the prompt's concepts "
            "show. It puts something into a picture without an edge; what was there before stays "
            "visible around it. false: all of the white is painted anew."
        ),
    ] = False

    def strength(self, *, masked: bool) -> float:
        """Return the share of the denoising that is done anew; the default depends on the mask."""
        if self.denoising_strength is not None:
            return self.denoising_strength
        return _STRENGTH_WITH_MASK if masked else _STRENGTH_WITHOUT_MASK


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ScheduleConfig:
    """Corrections of a base model's noise schedule, for a repository that describes it wrongly."""

    prediction_type: Prediction | None = None
    rescale_betas_zero_snr: bool | None = None
    timestep_spacing: Literal["leading", "linspace", "trailing"] | None = None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class BaseModelDefaults:
    """A base model's overrides of the defaults of TrainConfig, GenerateConfig and ScheduleConfig.

    Each is a dict by field name. `known_superclasses` are the things that it was trained to draw.
    """

    train: dict[str, Any] = field(default_factory=dict)
    generate: dict[str, Any] = field(default_factory=dict)
    schedule: dict[str, Any] = field(default_factory=dict)
    known_superclasses: list[str] = field(default_factory=list)

    def train_config(self, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
        """Return a TrainConfig: the defaults, then the base model's values, then `overrides`."""
        return TrainConfig(**{**self.train, **(overrides or {})})

    def generate_config(self, overrides: Mapping[str, Any] | None = None) -> GenerateConfig:
        """Return a GenerateConfig: the defaults, then the base model's values, then `overrides`."""
        return GenerateConfig(**{**self.generate, **without_auto(overrides or {})})

    def overridden_by(self, other: "BaseModelDefaults") -> "BaseModelDefaults":
        """Return these defaults with the values of `other` in place of their own."""
        return BaseModelDefaults(
            train={**self.train, **other.train},
            generate={**self.generate, **without_auto(other.generate)},
            schedule={**self.schedule, **other.schedule},
            known_superclasses=other.known_superclasses or self.known_superclasses,
        )


def without_auto(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options without a scheduler `auto`, so that the base model's own applies."""
    return {
        name: value
        for name, value in options.items()
        if not (name == "scheduler" and value == "auto")
    }


def read_defaults(path: str | Path) -> BaseModelDefaults:
    """Return the overrides of a base model; none if there is no file of overrides.

    The file is `perfusion.json` in the base model's folder, or `NAME.perfusion.json` next to a
    single file NAME.safetensors. Raises BaseModelError if the file is not valid JSON, names an
    unknown field or breaks a bound.
    """
    path = Path(path)
    file = path.with_suffix(f".{DEFAULTS_FILE}") if path.is_file() else path / DEFAULTS_FILE
    if not file.is_file():
        return BaseModelDefaults()
    try:
        defaults = BaseModelDefaults(**json.loads(file.read_text("utf-8")))
        defaults.train_config()
        defaults.generate_config()
        ScheduleConfig(**defaults.schedule)
    except (ValueError, TypeError) as error:
        raise BaseModelError(
            f"{file.name} of the base model is not valid: it may hold "
            '{"train": {...}, "generate": {...}, "schedule": {...}, "known_superclasses": [...]} '
            "with the options of this release."
        ) from error
    return defaults

"""What a diffusers folder says about itself in its model_index.json, and whether it can be used."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfusion_core.errors import BaseModelError

INDEX_FILE = "model_index.json"
REMEDY = "Use a text-to-image model of the Stable Diffusion 1.x, 2.x or XL families."

_CLASSES: Mapping[str, tuple[str, ...]] = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
    "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
}
_SECOND = ("text_encoder_2", "tokenizer_2")


@dataclass(frozen=True)
class Index:
    """The parts of a pipeline that can be used. A safety checker or another part is no such part.

    `parts` maps a part, such as `unet`, to its class. `scheduler` is the class of the model's own
    scheduler. `options` holds the pipeline's plain values, such as `force_zeros_for_empty_prompt`.
    """

    parts: dict[str, str]
    scheduler: str
    options: dict[str, Any]

    @property
    def is_xl(self) -> bool:
        """Return whether the pipeline is of the XL family, which has two text encoders."""
        return "text_encoder_2" in self.parts


def read_index(file: Path, *, name: str) -> Index:
    """Read a model_index.json; raise BaseModelError if the pipeline `name` cannot be used."""
    try:
        value = json.loads(file.read_text("utf-8"))
        pipeline = str(value["_class_name"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BaseModelError(f"The {INDEX_FILE} of {name!r} is not valid.") from error
    parts = {
        part: str(entry[1])
        for part, entry in value.items()
        if isinstance(entry, list) and len(entry) == 2 and entry[1] is not None
    }
    _refuse_other_pipelines(pipeline, parts, name)
    usable = {part: parts[part] for part in _CLASSES if part in parts}
    options = {
        key: entry
        for key, entry in value.items()
        if isinstance(entry, (bool, int, float, str)) and not key.startswith("_")
    }
    return Index(usable, parts["scheduler"], options)


def _refuse_other_pipelines(pipeline: str, parts: Mapping[str, str], name: str) -> None:
    """Raise BaseModelError for everything but text to image with a U-Net and CLIP's encoders."""
    if "Inpaint" in pipeline:
        raise BaseModelError(
            f"{name!r} is an inpainting model ({pipeline}). Use the model that it was made from: "
            "text to image needs a U-Net with 4 input channels."
        )
    if "text_encoder_2" in parts and "text_encoder" not in parts:
        raise BaseModelError(
            f"{name!r} is a refiner ({pipeline}), which has one text encoder and finishes images "
            "of another model. Use the base model, such as stable-diffusion-xl-base-1.0."
        )
    needed = {"scheduler", *_CLASSES} - (set() if "text_encoder_2" in parts else set(_SECOND))
    wrong = [
        f"its {part} is {parts.get(part, 'missing')}"
        for part in sorted(needed)
        if part not in parts or parts[part] not in _CLASSES.get(part, (parts[part],))
    ]
    if wrong:
        raise BaseModelError(f"{name!r} is a {pipeline}, which is not supported. {REMEDY}")
    if parts["scheduler"].startswith("EDM"):
        raise BaseModelError(
            f"{name!r} is trained with EDM's noise ({parts['scheduler']}), which is not "
            f"supported. {REMEDY}"
        )

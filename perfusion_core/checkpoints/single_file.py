"""Reads a single-file checkpoint in the layout of Stable Diffusion's original releases.

Such a file holds weights alone. The configurations are those of its family (models/families), and
the tokenizers are CLIP's, so nothing is fetched.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import models
from perfusion_core.checkpoints.index import INDEX_FILE, read_index
from perfusion_core.checkpoints.layout import family_of, renamed
from perfusion_core.checkpoints.pipeline import assemble
from perfusion_core.checkpoints.prediction import prediction_of
from perfusion_core.checkpoints.weights import read_tensors
from perfusion_core.errors import BaseModelError
from perfusion_core.text.clip_tokenizer import clip_tokenizer

FAMILIES = models.folder() / "families"
_PADDING: Mapping[tuple[str, str], str] = {("sd2", "tokenizer"): "!", ("sdxl", "tokenizer_2"): "!"}
_V_SAMPLE_SIZE = 96


def read_single_file(
    file: Path, *, name: str, unet_dtype: torch.dtype = torch.float32,
    configurations: Path = FAMILIES,
) -> Any:  # fmt: skip
    """Return the pipeline in a .safetensors or .ckpt file.

    The U-Net is read in `unet_dtype`, the other parts in float32. `configurations` holds a
    configuration folder for each family. Raises BaseModelError if the file is damaged, incomplete
    or of another kind.
    """
    tensors, written = read_tensors(file)
    tensors = renamed(tensors)
    family = family_of(tensors, name=name)
    folder = configurations / family
    index = read_index(folder / INDEX_FILE, name=name)
    parts: dict[str, Any] = {}
    for part, kind in index.parts.items():
        if part.startswith("tokenizer"):
            parts[part] = clip_tokenizer(pad_token=_PADDING.get((family, part), "<|endoftext|>"))
        else:
            dtype = unet_dtype if part == "unet" else torch.float32
            parts[part] = _load_part(tensors, folder, part, kind, name=name, dtype=dtype)
    parts["scheduler"] = _scheduler(folder, index.scheduler)
    prediction = prediction_of(
        tensors, written=written, yaml_file=file.with_suffix(".yaml"), family=family,
        unet=parts["unet"], scheduler=parts["scheduler"],
    )  # fmt: skip
    if prediction.type != "epsilon":
        if family == "sd2":
            parts["unet"].register_to_config(sample_size=_V_SAMPLE_SIZE)
        parts["scheduler"] = parts["scheduler"].from_config(
            parts["scheduler"].config, **prediction.scheduler_options()
        )
    return assemble(parts, options=index.options)


def _load_part(
    tensors: dict[str, Tensor], folder: Path, part: str, kind: str, *, name: str,
    dtype: torch.dtype,
) -> Any:  # fmt: skip
    import diffusers
    import transformers
    from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm

    try:
        if part.startswith("text_encoder"):
            module = create_diffusers_clip_model_from_ldm(
                getattr(transformers, kind), tensors, subfolder=part, config=str(folder),
                torch_dtype=dtype, local_files_only=True,
            )  # fmt: skip
        else:
            module = getattr(diffusers, kind).from_single_file(
                tensors, config=str(folder), subfolder=part, dtype=dtype,
                local_files_only=True,
            )  # fmt: skip
    except (ValueError, RuntimeError, KeyError, OSError) as error:
        raise BaseModelError(_unfit(part, name)) from error
    if any(parameter.is_meta for parameter in module.parameters()):
        raise BaseModelError(_unfit(part, name))
    return module


def _unfit(part: str, name: str) -> str:
    return (
        f"The {part} in {name!r} is incomplete or of another size than its family's. A smaller or "
        "larger variant loads as a diffusers folder, which says its sizes."
    )


def _scheduler(folder: Path, kind: str) -> Any:
    import diffusers

    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text("utf-8"))
    return getattr(diffusers, kind).from_config(config)

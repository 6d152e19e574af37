"""Reads a diffusers folder: the parts that text to image needs, each by its own class."""

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from perfusion_core.checkpoints.files import choose_weights
from perfusion_core.checkpoints.index import INDEX_FILE, Index, read_index
from perfusion_core.checkpoints.pipeline import assemble
from perfusion_core.errors import BaseModelError
from perfusion_core.hub import refuse_adapters


def read_folder(folder: Path, *, name: str, unet_dtype: torch.dtype = torch.float32) -> Any:
    """Return the pipeline in `folder`, without a safety checker; other parts are in float32.

    Weights are safetensors, or pickles that hold tensors alone. Raises BaseModelError if a file is
    missing or damaged, or if the pipeline is of another kind.
    """
    if not (folder / INDEX_FILE).is_file():
        raise BaseModelError(
            f"{name!r} cannot be loaded: its folder has no {INDEX_FILE}. Name a folder written by "
            "diffusers' save_pretrained, a single-file checkpoint or a hub model."
        )
    refuse_adapters(folder)
    index = read_index(folder / INDEX_FILE, name=name)
    parts = {
        part: _reading(part, name, partial(_load_part, folder, part, kind, name, unet_dtype))
        for part, kind in index.parts.items()
    }
    parts["scheduler"] = _reading("scheduler", name, partial(_load_scheduler, folder, index))
    _refuse_other_inputs(parts["unet"], name)
    return assemble(parts, options=index.options)


def _refuse_other_inputs(unet: Any, name: str) -> None:
    """Raise BaseModelError if the U-Net takes more than latents, as inpainting models do."""
    channels = unet.config.in_channels
    if channels != unet.config.out_channels:
        kind = "inpainting" if channels == 9 else "editing"
        raise BaseModelError(
            f"The U-Net of {name!r} has {channels} input channels, as {kind} models have. Use the "
            "text-to-image model that it was made from."
        )


def _load_part(folder: Path, part: str, kind: str, name: str, unet_dtype: torch.dtype) -> Any:
    import diffusers
    import transformers

    if part.startswith("tokenizer"):
        return transformers.CLIPTokenizer.from_pretrained(folder / part, local_files_only=True)
    files = [str(file.relative_to(folder)) for file in (folder / part).glob("*")]
    weights = choose_weights(part, files, name=name)
    known = getattr(diffusers, kind, None) or getattr(transformers, kind)
    return known.from_pretrained(
        str(folder), subfolder=part, variant=weights.variant, use_safetensors=weights.safetensors,
        dtype=unet_dtype if part == "unet" else torch.float32, local_files_only=True,
    )  # fmt: skip


def _load_scheduler(folder: Path, index: Index) -> Any:
    import diffusers

    kind = getattr(diffusers, index.scheduler, None)
    if kind is None:
        raise BaseModelError(
            f"The model's own scheduler {index.scheduler} is unknown to the installed diffusers."
        )
    return kind.from_pretrained(folder, subfolder="scheduler", local_files_only=True)


def _reading(part: str, name: str, read: Callable[[], Any]) -> Any:
    """Return what `read` reads; raise BaseModelError with the cause if `part` cannot be read."""
    try:
        return read()
    except BaseModelError:
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, pickle.UnpicklingError):
                raise BaseModelError(
                    f"The {part} of {name!r} is a pickle that holds more than weights, so it was "
                    "not loaded: it could run code. Use safetensors weights."
                ) from error
            cause = cause.__cause__ or cause.__context__
        told = str(error).strip().partition("\n")[0]
        raise BaseModelError(
            f"The {part} of {name!r} cannot be loaded ({type(error).__name__}: {told}). A file "
            "may be damaged or missing: fetch the model again."
        ) from error

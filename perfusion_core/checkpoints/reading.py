"""Reads a base model's checkpoint, a diffusers folder or a single file."""

from pathlib import Path
from typing import Any

import torch

from perfusion_core.checkpoints.folder import read_folder
from perfusion_core.checkpoints.single_file import read_single_file


def read_checkpoint(path: Path, *, name: str, unet_dtype: torch.dtype = torch.float32) -> Any:
    """Return the diffusers pipeline at `path`; `name` is the model's in error messages.

    The U-Net is read in `unet_dtype`, the other parts in float32. Nothing is fetched. Raises
    BaseModelError if the checkpoint is of another family, or cannot be read.
    """
    read = read_single_file if path.is_file() else read_folder
    return read(path, name=name, unet_dtype=unet_dtype)

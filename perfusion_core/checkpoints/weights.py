"""Reads the tensors of a single file, safetensors or a pickle, without running its code."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perfusion_core.errors import BaseModelError


class _Ignored:
    """What stands in for the training software's own records, which no image needs."""

    def __new__(cls, *_: object) -> "_Ignored":
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        """Keep nothing."""


# The first Stable Diffusion checkpoints carry these records of PyTorch Lightning and NumPy.
_RECORDS = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "_codecs.encode",
)


def read_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a file's tensors by name, and the metadata of a safetensors file.

    Raises BaseModelError if the file is damaged, of another format, or a pickle with code.
    """
    kind = file.suffix.lower()
    if kind == ".safetensors":
        return _read_safetensors(file)
    if kind in (".ckpt", ".pt", ".pth", ".bin"):
        return _read_pickle(file), {}
    raise BaseModelError(
        f"{file.name} is of a format that is not read ({kind or 'no ending'}): a single file is "
        ".safetensors or .ckpt."
    )


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            return tensors, dict(opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise BaseModelError(
            f"{file.name} is no whole safetensors file ({error}): download it again."
        ) from error


def _read_pickle(file: Path) -> dict[str, Tensor]:
    try:
        with torch.serialization.safe_globals([(_Ignored, name) for name in _RECORDS]):
            value: Any = torch.load(
                file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file)
            )
    except pickle.UnpicklingError as error:
        raise BaseModelError(
            f"{file.name} is a pickle that holds more than weights, or a damaged one. It was not "
            "loaded, since it could run code: use the model's safetensors file."
        ) from error
    except Exception as error:  # torch's reader fails in many ways on bytes that are no pickle
        raise BaseModelError(f"{file.name} is no whole checkpoint: download it again.") from error
    while isinstance(value, dict) and isinstance(value.get("state_dict"), dict):
        value = value["state_dict"]
    if not isinstance(value, dict):
        raise BaseModelError(f"{file.name} holds no weights by name, so it is no checkpoint.")
    return {str(name): tensor for name, tensor in value.items() if isinstance(tensor, Tensor)}

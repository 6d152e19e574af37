"""A training's saved state as bytes: tensors, the step, and the training's identity."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from perfusion_core.config import TrainConfig
from perfusion_core.errors import TrainingStateError
from perfusion_core.memory import is_out_of_memory

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel


@dataclass(frozen=True, kw_only=True)
class SavedState:
    """The unpacked arguments of `pack`."""

    tensors: Mapping[str, Tensor]
    step: int
    early_stopping: str


def identity_of(
    base: "BaseModel",
    config: TrainConfig,
    *,
    superclass: str,
    pictures: str,
    templates: Sequence[str],
) -> str:
    """Return a hash of everything that a state depends on; `pictures` is the pictures' digest."""
    # Without the defaults, so that a release with a new option resumes earlier trainings.
    usual = asdict(TrainConfig())
    chosen = {name: v for name, v in asdict(config).items() if v != usual[name]}
    parts = [
        base.fingerprint,
        base.covariance_fingerprint,
        superclass,
        chosen,
        pictures,
        list(templates),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def pack(tensors: Mapping[str, Tensor], *, step: int, early_stopping: str, identity: str) -> bytes:
    """Return a saved state; `identity` stands for the pictures, the options and the base model."""
    contiguous = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    metadata = {"step": str(step), "looks": early_stopping, "identity": identity}
    return save(contiguous, metadata=metadata)


def unpack(state: bytes, *, identity: str) -> SavedState:
    """Return the saved state; raises TrainingStateError if it belongs to another training.

    A damaged state raises errors of many kinds, so call `unpack` inside `damage_is_named`.
    """
    size = int.from_bytes(state[:8], "little")
    metadata = json.loads(state[8 : 8 + size])["__metadata__"]
    tensors = load(state)
    if metadata["identity"] != identity:
        raise TrainingStateError(
            "This training state was saved with other pictures, options or another base "
            "model: start the training anew."
        )
    return SavedState(tensors=tensors, step=int(metadata["step"]), early_stopping=metadata["looks"])


def moments(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the optimiser's moments of each parameter, with keys `parameter.moment`."""
    return {
        f"{key}.{moment}": value
        for key, parameter in parameters.items()
        for moment, value in optimizer.state.get(parameter, {}).items()
    }


def set_moments(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
) -> None:
    """Set the optimiser's moments to the result of `moments`."""
    for key, parameter in parameters.items():
        own = {
            name.removeprefix(f"{key}."): tensor.to(
                "cpu" if name.endswith(".step") else parameter.device
            )
            for name, tensor in tensors.items()
            if name.startswith(f"{key}.")
        }
        if own:
            optimizer.state[parameter] = own


@contextmanager
def damage_is_named() -> Iterator[None]:
    """Turn any error caused by a damaged state into a TrainingStateError.

    Errors caused by too little memory are raised unchanged, because the state can be read again
    later.
    """
    try:
        yield
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise TrainingStateError(
            "The training state is damaged: start the training anew."
        ) from error

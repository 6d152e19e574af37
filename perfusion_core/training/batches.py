"""The random draws of a training step: pictures, noise, times and prompts.

All random draws of a step depend only on the seed and the step's number, and are made on the CPU.
So a resumed training makes the same draws as an uninterrupted training, on every device.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_core.config import TrainConfig
from perfusion_core.text.training_prompts import TrainingPrompts
from perfusion_core.training.examples import Examples

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel


@dataclass(frozen=True, kw_only=True)
class TrainingBatch:
    """B examples and their P different prompts; tensors are on the device."""

    latents: Tensor  # (B, c, h, w)
    masks: Tensor  # (B, 1, h, w)
    noise: Tensor  # (B, c, h, w)
    t: Tensor  # (B,)
    prompt: Tensor  # (B,): the index of each example's prompt among the P prompts
    prompts: TrainingPrompts  # the P prompts


class TrainingBatches:
    """The batches of all steps of one training."""

    def __init__(
        self,
        base: "BaseModel",
        examples: Examples,
        *,
        prompts: TrainingPrompts,
        config: TrainConfig,
    ) -> None:
        """Prepare the batches; every step draws one of the `prompts` for each example."""
        self._base, self._examples, self._config = base, examples, config
        self._prompts = prompts
        self._times = int(base.scheduler_config["num_train_timesteps"])

    def of(self, step: int) -> TrainingBatch:
        """Return the batch of the next step, when `step` steps are finished."""
        B, draw = self._config.train_batch_size, self._generator(step)
        latents, masks = self._examples.latents, self._examples.masks
        chosen = torch.randint(len(latents), (B,), generator=draw)
        # Examples with the same prompt share its encoding, Keys and Values. 16 examples that draw
        # from 15 prompts have about 10 different prompts.
        used, prompt = torch.randint(len(self._prompts.places), (B,), generator=draw).unique(
            return_inverse=True
        )
        t = torch.randint(self._times, (B,), generator=draw)
        noise = torch.randn((B, *latents.shape[1:]), generator=draw)
        # Each copy waits for the device, so all copies are made here, before the device has work.
        device = self._base.device
        chosen = chosen.to(device)
        return TrainingBatch(
            latents=latents[chosen],
            masks=masks[chosen],
            noise=noise.to(device),
            t=t.to(device),
            prompt=prompt.to(device),
            prompts=self._prompts.rows(used.tolist()),
        )

    def _generator(self, step: int) -> torch.Generator:
        key = hashlib.blake2b(f"{self._config.seed} {step}".encode(), digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(key, "little") >> 1)

"""What a training step draws: pictures, noise, times and prompts.

All of it is a function of the seed and the step's number, and is drawn on the CPU. So a training
that goes on from a saved state draws what it would have drawn, on every device.
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
    """B examples, and the P different prompts that they have; tensors are on the device."""

    latents: Tensor  # (B, c, h, w)
    masks: Tensor  # (B, 1, h, w)
    noise: Tensor  # (B, c, h, w)
    t: Tensor  # (B,)
    prompt: Tensor  # (B,): which of the P prompts each example has
    prompts: TrainingPrompts  # those P


class TrainingBatches:
    """Every step's batch of one training."""

    def __init__(
        self,
        base: "BaseModel",
        examples: Examples,
        *,
        prompts: TrainingPrompts,
        config: TrainConfig,
    ) -> None:
        """Draw for each example one of the `prompts`, anew in every step."""
        self._base, self._examples, self._config = base, examples, config
        self._prompts = prompts
        self._times = int(base.scheduler_config["num_train_timesteps"])

    def of(self, step: int) -> TrainingBatch:
        """Return the batch of the step that comes after `step` others."""
        B, draw = self._config.train_batch_size, self._generator(step)
        latents, masks = self._examples.latents, self._examples.masks
        chosen = torch.randint(len(latents), (B,), generator=draw)
        # Examples of one prompt share its encoding, and so its Keys and Values: of 16 examples with
        # 15 prompts 10 differ.
        used, prompt = torch.randint(len(self._prompts.places), (B,), generator=draw).unique(
            return_inverse=True
        )
        t = torch.randint(self._times, (B,), generator=draw)
        noise = torch.randn((B, *latents.shape[1:]), generator=draw)
        # Each copy waits for the device, so all of them are made here, before it has work.
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

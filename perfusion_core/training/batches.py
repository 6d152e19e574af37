"""What a training step draws: pictures, noise, times and prompts.

All of it is a function of the seed and the step's number, drawn on the CPU: a training that goes
on from a saved state meets what it would have met, on every device.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_core.config import TrainConfig
from perfusion_core.text.prompt import parse
from perfusion_core.text.templates import TEMPLATES
from perfusion_core.text.tokenization import Tokens, tokenise
from perfusion_core.training.examples import Examples

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel


@dataclass(frozen=True, kw_only=True)
class TrainingBatch:
    """B examples, and the P different prompts among theirs; tensors are on the device."""

    latents: Tensor  # (B, c, h, w)
    masks: Tensor  # (B, 1, h, w)
    noise: Tensor  # (B, c, h, w)
    t: Tensor  # (B,)
    prompt: Tensor  # (B,): which of the P prompts each example has
    tokens: list[list[Tokens]]  # indexed [text encoder][prompt]
    places: Tensor  # (P,): where the concept stands in each prompt


class TrainingBatches:
    """Every step's batch of one training."""

    def __init__(
        self, base: "BaseModel", examples: Examples, *, superclass: str, config: TrainConfig
    ) -> None:
        """Tokenise the templates once."""
        self._base, self._examples, self._config = base, examples, config
        self._times = int(base.scheduler_config["num_train_timesteps"])
        self._tokens = [
            [
                tokenise(tokenizer, parse(t.format("<x>")), superclasses={"x": superclass})
                for t in TEMPLATES
            ]
            for tokenizer in base.tokenizers
        ]

    def of(self, step: int) -> TrainingBatch:
        """The batch of the step that `step` others precede."""
        B, draw = self._config.train_batch_size, self._generator(step)
        latents, masks = self._examples.latents, self._examples.masks
        chosen = torch.randint(len(latents), (B,), generator=draw)
        # Examples of one template share its encoding, and so its Keys and Values: of 16 examples
        # with 15 templates 10 differ.
        templates, prompt = torch.randint(len(TEMPLATES), (B,), generator=draw).unique(
            return_inverse=True
        )
        t = torch.randint(self._times, (B,), generator=draw)
        noise = torch.randn((B, *latents.shape[1:]), generator=draw)
        tokens = [[own[k] for k in templates.tolist()] for own in self._tokens]
        places = torch.tensor([token.places[0][0] for token in tokens[0]])
        # Everything comes onto the device here, while it has nothing to do: each copy waits for it.
        device = self._base.device
        chosen = chosen.to(device)
        return TrainingBatch(
            latents=latents[chosen],
            masks=masks[chosen],
            noise=noise.to(device),
            t=t.to(device),
            prompt=prompt.to(device),
            tokens=tokens,
            places=places.to(device),
        )

    def _generator(self, step: int) -> torch.Generator:
        key = hashlib.blake2b(f"{self._config.seed} {step}".encode(), digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(key, "little") >> 1)

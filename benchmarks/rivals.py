"""A training step of textual inversion and of LoRA, as diffusers' example scripts do it.

They run on any pipeline and device. Like ours they get cached latents and tokenised prompts, which
the scripts leave to a data loader. In mixed precision the frozen weights are cast, and what is
learned stays in float32 under autocast.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor
from torch.nn import functional

from perfusion_core.text.templates import TEMPLATES
from perfusion_core.training.loss import wanted_prediction

_WORD = "<learned>"
_RANK = 4


class Rival(ABC):
    """One training in progress."""

    def __init__(
        self, pipeline: Any, latents: Tensor, *, batch: int, superclass: str, dtype: torch.dtype
    ) -> None:
        """Take over the pipeline, which is on its device; `latents` are scaled (n, c, h, w)."""
        self.pipeline, self._latents, self._batch = pipeline, latents, batch
        self._device, self._dtype = latents.device, dtype
        for module in (pipeline.unet, pipeline.text_encoder):
            module.requires_grad_(False)
        pipeline.unet.to(dtype)
        learned = self._unfreeze(superclass)
        self._optimizer = torch.optim.AdamW(learned, lr=1e-4)
        self._ids = pipeline.tokenizer(
            [template.format(self._word(superclass)) for template in TEMPLATES],
            padding="max_length", truncation=True, return_tensors="pt",
        ).input_ids.to(self._device)  # fmt: skip
        self._draw = torch.Generator(self._device).manual_seed(0)

    def step(self) -> float:
        """Do one step; return its loss."""
        draw, device = self._draw, self._device
        chosen = torch.randint(len(self._latents), (self._batch,), generator=draw, device=device)
        which = torch.randint(len(self._ids), (self._batch,), generator=draw, device=device)
        t = torch.randint(1000, (self._batch,), generator=draw, device=device)
        latents, scheduler = self._latents[chosen], self.pipeline.scheduler
        noise = torch.randn(latents.shape, generator=draw, device=device)
        noisy = scheduler.add_noise(latents, noise, t)
        mixed = self._dtype != torch.float32
        with torch.autocast(device.type, dtype=self._dtype, enabled=mixed):
            told = self._encode(self._ids[which])
            predicted = self.pipeline.unet(
                noisy.to(self._dtype), t, encoder_hidden_states=told.to(self._dtype)
            ).sample
        wanted = wanted_prediction(scheduler, latents, noise, t)
        loss = functional.mse_loss(predicted.float(), wanted)
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad()
        return float(loss.detach())

    @abstractmethod
    def _unfreeze(self, superclass: str) -> Sequence[Tensor]:
        """Make the parameters that are learned, and return them."""

    @abstractmethod
    def _word(self, superclass: str) -> str:
        """Return what prompts call the subject."""

    @abstractmethod
    def _encode(self, ids: Tensor) -> Tensor: ...


class TextualInversion(Rival):
    """The word's embedding is learned (Gal et al. 2022)."""

    def step(self) -> float:
        """Do one step. The optimiser has the whole table: all rows but the word's are set back."""
        loss = super().step()
        with torch.no_grad():
            self._table[:-1] = self._before[:-1]
        return loss

    def _unfreeze(self, superclass: str) -> Sequence[Tensor]:
        tokenizer, encoder = self.pipeline.tokenizer, self.pipeline.text_encoder
        tokenizer.add_tokens([_WORD])
        table: Tensor = encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False).weight
        with torch.no_grad():
            table[-1] = table[tokenizer(superclass, add_special_tokens=False).input_ids[-1]]
        self._table = table.requires_grad_()
        self._before = table.detach().clone()
        return [table]

    def _word(self, superclass: str) -> str:
        return _WORD

    def _encode(self, ids: Tensor) -> Tensor:
        told: Tensor = self.pipeline.text_encoder(ids)[0]
        return told


class Lora(Rival):
    """Low-rank additions to every attention projection are learned (Hu et al. 2021), by peft."""

    def _unfreeze(self, superclass: str) -> Sequence[Tensor]:
        self.pipeline.text_encoder.to(self._dtype)
        projections = ["to_q", "to_k", "to_v", "to_out.0"]
        self.pipeline.unet.add_adapter(
            LoraConfig(r=_RANK, lora_alpha=_RANK, target_modules=projections)
        )
        learned = [
            parameter for parameter in self.pipeline.unet.parameters() if parameter.requires_grad
        ]
        for parameter in learned:
            parameter.data = parameter.data.float()
        return learned

    def _word(self, superclass: str) -> str:
        return superclass

    @torch.no_grad()
    def _encode(self, ids: Tensor) -> Tensor:
        told: Tensor = self.pipeline.text_encoder(ids)[0]
        return told

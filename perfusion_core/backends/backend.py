"""What computes the U-Net of a sampling step: torch itself, or a graph that is compiled from it.

Keys and Values are inputs of the U-Net, so one graph serves every concept, strength and prompt.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class UNetInput:
    """The rows of one U-Net call, all of one latent shape, on one device."""

    latents: Tensor  # (B, c, h, w), float32
    timesteps: Tensor  # (B,)
    packed: Tensor  # (B, N, 2 Σ d_l), Keys and Values
    guidance: Tensor | None = None  # (B, c'), for U-Nets that take the guidance as an input
    added: Mapping[str, Tensor] = field(default_factory=dict)  # SDXL's extra conditions

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name."""
        given = {"latents": self.latents, "timesteps": self.timesteps, "packed": self.packed}
        if self.guidance is not None:
            given["guidance"] = self.guidance
        return {**given, **self.added}

    def map(self, change: Callable[[Tensor], Tensor]) -> "UNetInput":
        """Return the same rows with each tensor changed."""
        return UNetInput(
            latents=change(self.latents),
            timesteps=change(self.timesteps),
            packed=change(self.packed),
            guidance=None if self.guidance is None else change(self.guidance),
            added={name: change(own) for name, own in self.added.items()},
        )


class Backend(Protocol):
    """Computes the U-Net's prediction (B, c, h, w) in float32."""

    name: str

    @property
    def precision(self) -> str:
        """The dtype that most of the work is done in."""
        ...

    def __call__(self, rows: UNetInput) -> Tensor:
        """Return the prediction of all rows."""
        ...


class EagerBackend:
    """The U-Net in torch. It is the only one that attention can be observed in."""

    name = "eager"

    def __init__(self, unet: Any) -> None:
        self._unet = unet
        self.precision = str(unet.dtype).removeprefix("torch.")

    @torch.no_grad()
    def __call__(self, rows: UNetInput) -> Tensor:
        """Return the prediction of all rows."""
        return self.with_gradients(rows)

    def with_gradients(self, rows: UNetInput) -> Tensor:
        """Return the prediction with gradients, as a training needs it."""
        dtype = self._unet.dtype
        timesteps, rows = rows.timesteps, rows.map(lambda tensor: tensor.to(dtype))
        prediction: Tensor = self._unet(
            rows.latents,
            timesteps,
            encoder_hidden_states=rows.packed,
            timestep_cond=rows.guidance,
            added_cond_kwargs=dict(rows.added) or None,
        ).sample
        return prediction.float()


def example_input(unet: Any, *, rows: int, side: int, tokens: int, packed_width: int) -> UNetInput:
    """Return random input of a U-Net: latents of `side`, and N = `tokens` Keys and Values."""
    config = unet.config
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(rows, *shape, generator=draw)

    guidance = config.time_cond_proj_dim
    added = {}
    if config.addition_embed_type == "text_time":
        text = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        added = {"text_embeds": normal(text), "time_ids": normal(6)}
    return UNetInput(
        latents=normal(config.in_channels, side, side),
        timesteps=torch.full((rows,), 500.0),
        packed=normal(tokens, packed_width),
        guidance=None if guidance is None else normal(guidance),
        added=added,
    )

"""Text encoding with a concept's word embedding in a placeholder's position.

Only the word embedding is replaced; positions, causal mask and layer norms are the text encoder's
own. The encoding `e` is exactly what the U-Net's cross-attention receives (METHOD, notation).
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from perfusion_core.devices.offloading import Offloading


@dataclass(frozen=True)
class Replacement:
    """The embeddings, one per text encoder, that replace a word embedding in the batch."""

    row: int
    position: int
    embeddings: tuple[Tensor, ...]


@dataclass(frozen=True)
class Encoding:
    """Encodings e (B, N, d), and SDXL's pooled text embedding (B, p); None for other families."""

    e: Tensor
    pooled: Tensor | None = None


class TextEncoders:
    """The one or two text encoders of a base model, used by one thread at a time."""

    def __init__(
        self, encoders: Sequence[Any], *, penultimate: bool, offloading: Offloading
    ) -> None:
        """`offloading` knows whether the encoders, its part "text", are always on the device."""
        self.encoders = tuple(encoders)
        self.offloading = offloading
        self.penultimate = penultimate  # SDXL reads the layer before the last, unnormalised
        self._turn = threading.RLock()

    @property
    def tables(self) -> tuple[Tensor, ...]:
        """The frozen word embedding tables, (vocabulary, width) each."""
        return tuple(encoder.get_input_embeddings().weight for encoder in self.encoders)

    def encode(
        self, ids: Sequence[Sequence[Sequence[int]]], replacements: Sequence[Replacement] = ()
    ) -> Encoding:
        """Encode token ids, indexed [encoder][row][position], with gradients for `replacements`.

        Encoders that leave the device keep nothing for the backward pass: they encode again.
        """
        if replacements and torch.is_grad_enabled() and self.offloading.covers("text"):
            vectors = [vector for each in replacements for vector in each.embeddings]
            e, *pooled = _EncodedAgain.apply(self, ids, replacements, *vectors)  # type: ignore[no-untyped-call]
            return Encoding(e, *pooled)
        return self.encode_once(ids, replacements)

    def encode_once(
        self, ids: Sequence[Sequence[Sequence[int]]], replacements: Sequence[Replacement]
    ) -> Encoding:
        """Encode with the encoders on the device; a backward pass needs them there, too."""
        states: list[Tensor] = []
        pooled: Tensor | None = None
        # Only one call at a time may register the hook below.
        with self._turn, self.offloading.using("text"):
            for k, encoder in enumerate(self.encoders):
                table = encoder.get_input_embeddings()
                hook = table.register_forward_hook(_replacing(k, replacements))
                try:
                    batch = torch.tensor(ids[k], device=table.weight.device)
                    out = encoder(batch, output_hidden_states=self.penultimate)
                finally:
                    hook.remove()
                states.append(out.hidden_states[-2] if self.penultimate else out[0])
                if self.penultimate:
                    pooled = out[0]  # the last encoder's projection
        return Encoding(e=torch.cat(states, dim=-1), pooled=pooled)


class _EncodedAgain(torch.autograd.Function):
    """Encodes without keeping activations, and once more when the gradient arrives.

    A graph would hold the weights on the device while the U-Net needs the memory.
    """

    @staticmethod
    def forward(
        ctx: Any,
        encoders: TextEncoders,
        ids: Sequence[Sequence[Sequence[int]]],
        replacements: Sequence[Replacement],
        *vectors: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.encoders, ctx.ids, ctx.replacements = encoders, ids, replacements
        ctx.save_for_backward(*vectors)
        return _outputs(encoders.encode_once(ids, replacements))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        encoders: TextEncoders = ctx.encoders
        vectors = [vector.detach().requires_grad_() for vector in ctx.saved_tensors]
        given = iter(vectors)
        replacements = [
            replace(each, embeddings=tuple(next(given) for _ in each.embeddings))
            for each in ctx.replacements
        ]
        with torch.enable_grad(), encoders.offloading.using("text"):
            outputs = _outputs(encoders.encode_once(ctx.ids, replacements))
            found = torch.autograd.grad(outputs, vectors, gradients)
        return (None, None, None, *found)


def _outputs(encoding: Encoding) -> tuple[Tensor, ...]:
    return (encoding.e,) if encoding.pooled is None else (encoding.e, encoding.pooled)


def _replacing(k: int, replacements: Sequence[Replacement]) -> Any:
    def hook(_module: Any, _inputs: Any, output: Tensor) -> Tensor | None:
        if not replacements:
            return None
        rows = torch.tensor([r.row for r in replacements], device=output.device)
        positions = torch.tensor([r.position for r in replacements], device=output.device)
        vectors = torch.stack([r.embeddings[k].to(output) for r in replacements])
        return output.index_put((rows, positions), vectors)

    return hook

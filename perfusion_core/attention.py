"""Cross-attention that reads Keys and Values computed beforehand.

Keys and Values depend on the prompt and its concepts, not on latents or timestep. So Keys and
Values are computed once per prompt, and passed to the U-Net in place of its
`encoder_hidden_states`. The Keys and Values of all layers are packed side by side: `[K_1 | V_1 |
K_2 | V_2 | …]`, shape (B, N, 2 Σ d_l). Each layer's attention processor takes the two slices of its
layer. The attention processors hold no state, so rows of one batch may have different prompts,
concepts and strengths, and several threads may share one U-Net.

An input whose width is not 2 Σ d_l is an ordinary encoding. The layer's original processor handles
ordinary encodings, so a U-Net with packed attention still gives a plain pipeline the same results,
bit for bit.

An observer around the U-Net's call receives the Queries and Keys of each layer. The U-Net's result
is the same with and without an observer. The observer is stored in a context variable, so each
thread has its own observer. Unlike `cross_attention_kwargs`, a context variable does not affect
self-attention.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from perfusion_core.errors import BaseModelError

_PASSAGE = ("down_blocks", "mid_block", "up_blocks")
"""The parts of a U-Net that hold cross-attention, in the order in which they run."""

Observer = Callable[[Tensor, Tensor], None]
"""A function called for each layer in turn with its Queries (B, h, P, c) and Keys (B, h, N, c)."""

_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


@dataclass(frozen=True)
class Layer:
    """One cross-attention layer and the position of its Keys and Values in the packed tensor."""

    name: str
    W_K: Tensor  # (d_l, d), the U-Net's own weight, not a copy
    W_V: Tensor  # (d_l, d)
    offset: int  # of this layer's values in Σ d_l

    @property
    def width(self) -> int:
        """d_l, the number of outputs of each projection."""
        return self.W_V.shape[0]

    @property
    def own(self) -> slice:
        """The slice of this layer in a vector over all layers, such as o*_V (Σ d_l,)."""
        return slice(self.offset, self.offset + self.width)

    def to(self, dtype: torch.dtype) -> "Layer":
        """Return the same layer with its projections in another precision."""
        return replace(self, W_K=self.W_K.to(dtype), W_V=self.W_V.to(dtype))


def cross_attention_layers(unet: Any) -> tuple[Layer, ...]:
    """Return the cross-attention layers of a diffusers U-Net, in the order in which they run.

    The vectors of a concept's o* are in the order in which the layers run. This order must not
    depend on how modules are registered, because diffusers registers the U-Net's middle block last.
    Raises BaseModelError if the U-Net has no such layer, or if a projection is not a plain linear
    map.
    """
    found = [(name, m) for name, m in unet.named_modules() if name.endswith(".attn2")]
    if not found:
        raise BaseModelError("This U-Net has no cross-attention layers, so no text can steer it.")
    found.sort(key=lambda layer: _place_in_passage(layer[0]))  # stable: a part keeps its order
    for name, module in found:
        for projection in (module.to_k, module.to_v):
            if type(projection) is not torch.nn.Linear or projection.bias is not None:
                raise BaseModelError(
                    f"{name} projects Keys or Values by something other than one matrix; "
                    "merge or remove adapters before loading the base model."
                )
    offsets = accumulate((m.to_v.weight.shape[0] for _, m in found), initial=0)
    return tuple(
        Layer(name, W_K=m.to_k.weight, W_V=m.to_v.weight, offset=offset)
        for (name, m), offset in zip(found, offsets, strict=False)
    )


def _place_in_passage(name: str) -> int:
    part = name.split(".")[0]
    if part not in _PASSAGE:
        raise BaseModelError(f"{name} lies in no part of a U-Net that is known to run in order.")
    return _PASSAGE.index(part)


def packed_width(layers: tuple[Layer, ...]) -> int:
    """Return the last dimension of packed Keys and Values, 2 Σ d_l."""
    return 2 * sum(layer.width for layer in layers)


def attach(unet: Any, layers: tuple[Layer, ...], *, fused: bool = True) -> None:
    """Make the U-Net accept packed Keys and Values as well as ordinary encodings.

    With `fused` the layers use torch's fused attention kernels, otherwise matrix products.
    """
    processors = dict(unet.attn_processors)
    width = packed_width(layers)
    for layer in layers:
        key = f"{layer.name}.processor"
        if not isinstance(processors[key], PackedAttention):
            processors[key] = PackedAttention(
                layer, width=width, plain=processors[key], fused=fused
            )
    unet.set_attn_processor(processors)


@contextmanager
def observed(observer: Observer | None) -> Iterator[None]:
    """Call `observer` with the Queries and Keys of every U-Net call inside the block."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


class PackedAttention:
    """The attention processor of one layer, which takes its slices of packed Keys and Values."""

    def __init__(self, layer: Layer, *, width: int, plain: Any, fused: bool = True) -> None:
        start = 2 * layer.offset
        self.key = slice(start, start + layer.width)
        self.value = slice(start + layer.width, start + 2 * layer.width)
        self.width = width
        self.plain = plain
        self._attend = F.scaled_dot_product_attention if fused else _attend_by_products

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Attend from `hidden_states` (B, P, c) to packed Keys and Values (B, N, 2 Σ d_l)."""
        packed = encoder_hidden_states
        if packed is None or packed.shape[-1] != self.width:
            out: Tensor = self.plain(
                attn, hidden_states, packed, attention_mask, temb=temb, **kwargs
            )
            return out
        q = self._heads(attn.to_q(hidden_states), attn.heads)  # (B, h, P, d_l / h)
        k = self._heads(packed[..., self.key], attn.heads)  # (B, h, N, d_l / h)
        v = self._heads(packed[..., self.value], attn.heads)  # (B, h, N, d_l / h)
        # A compiled U-Net is not observed: the compiler knows no context variables.
        observer = None if torch.compiler.is_compiling() else _observer.get()
        if observer is not None:
            observer(q, k)
        if torch.is_autocast_enabled("cpu"):  # a training in bfloat16
            attended = self._attend_in_float32(q, k, v)
        else:
            attended = self._attend(q, k.to(q.dtype), v.to(q.dtype))
        joined = attended.transpose(1, 2).flatten(2)  # (B, P, d_l)
        result: Tensor = attn.to_out[1](attn.to_out[0](joined))
        return result

    def _attend_in_float32(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # Torch's fused kernels for CPUs are slower in bfloat16 than in float32.
        with torch.autocast("cpu", enabled=False):
            return self._attend(q.float(), k.float(), v.float()).to(q.dtype)

    @staticmethod
    def _heads(x: Tensor, heads: int) -> Tensor:
        split: Tensor = x.unflatten(-1, (heads, -1))
        return split.transpose(1, 2)


def _attend_by_products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return softmax(q kᵀ / √c) v, for cards on which fused kernels fail."""
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # (B, h, P, N)
    return scores.softmax(-1) @ v

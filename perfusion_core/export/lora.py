"""A concept as a LoRA of rank 1, for tools that know nothing of concepts.

A LoRA is linear, so it is equation (2) with the similarity itself in the gate's place:
`h = W e + λ sim(e) (o* − W i*)` at the tool's scale λ. Each projection of a cross-attention layer
gets two matrices, whose product is `(o* − W i*) (C⁻¹ i*)ᵀ / (i*ᵀ C⁻¹ i*)`:

| key | shape | meaning |
| --- | --- | --- |
| `lora_unet_…_attn2_to_k.lora_up.weight` | (d_l, 1) | `W_K (e_super − i*)`, since Keys are locked |
| `lora_unet_…_attn2_to_v.lora_up.weight` | (d_l, 1) | `o*_V − W_V i*` |
| `….lora_down.weight` | (1, d) | `C⁻¹ i* / (i*ᵀ C⁻¹ i*)`, the same for every layer |
| `….alpha` | () | 1, the rank |

The keys are kohya's. The part after `lora_unet_` is the layer's name in diffusers.
diffusers refuses a file with any other key, so the placeholder's embedding is a file of its own
(embedding.py).
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.numpy import save as save_tensors
from torch import Tensor

from perfusion_core.concept import Concept, sort_header
from perfusion_core.conditioning import ConceptUse, target_of
from perfusion_core.export.metadata import Precision, lora_metadata

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel


@torch.no_grad()
def export_lora(base: "BaseModel", concept: Concept, *, dtype: Precision = "float32") -> bytes:
    """Return the LoRA's safetensors file; equal concepts give equal bytes on one machine.

    Raises the errors of `BaseModel.check` for a concept that does not fit the base model.
    """
    target = target_of(base, ConceptUse(concept))
    metric = base.covariance.metric
    i_star = target.i_star.to(metric.factor)  # (d,)
    dual = metric.solve(i_star[None])[0]  # (d,): C⁻¹ i*
    down = _array((dual / (i_star @ dual))[None], dtype)  # (1, d)
    alpha = np.ones((), dtype)
    tensors: dict[str, Any] = {}
    for layer in (layer.to(torch.float32) for layer in base.layers):
        key = target.e_super - target.i_star  # (d,)
        ups = {
            "to_k": layer.W_K @ key.to(layer.W_K),
            "to_v": target.o_v[layer.own].to(layer.W_V) - layer.W_V @ target.i_star.to(layer.W_V),
        }  # (d_l,)
        for projection, up in ups.items():
            name = f"lora_unet_{layer.name.replace('.', '_')}_{projection}"
            tensors[f"{name}.lora_up.weight"] = _array(up[:, None], dtype)
            tensors[f"{name}.lora_down.weight"] = down
            tensors[f"{name}.alpha"] = alpha
    return sort_header(save_tensors(tensors, metadata=lora_metadata(concept)))


def _array(tensor: Tensor, dtype: Precision) -> np.ndarray:
    return np.ascontiguousarray(tensor.float().cpu().numpy(), dtype)

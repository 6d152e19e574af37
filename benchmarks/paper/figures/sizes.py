"""What each method stores of one subject, in float32: computed from a U-Net's shapes."""

from typing import Any

import torch
from diffusers import UNet2DConditionModel


def stored_bytes(unet: Any, *, token_width: int, rank: int = 4) -> dict[str, int]:
    """Return the bytes by method for one subject; `token_width` is the text encoder's."""
    attention = {
        name: module
        for name, module in unet.named_modules()
        if name.endswith((".to_q", ".to_k", ".to_v", ".to_out.0"))
    }
    own = {n: m for n, m in attention.items() if n.endswith((".attn2.to_k", ".attn2.to_v"))}
    values = [module for name, module in own.items() if name.endswith(".to_v")]
    counts = {
        # o*_V of every layer, i*, e_super, and the word's embedding
        "perfusion": sum(m.out_features for m in values) + 2 * values[0].in_features + token_width,
        "textual inversion": token_width,
        "lora": sum(rank * (m.in_features + m.out_features) for m in attention.values()),
        "custom diffusion": sum(m.weight.numel() for m in own.values()) + token_width,
        "dreambooth": sum(weight.numel() for weight in unet.parameters()),
    }
    return {name: 4 * count for name, count in counts.items()}


def of_sd15() -> dict[str, int]:
    """Return the same for Stable Diffusion 1.5: diffusers' default U-Net with 768-wide text."""
    with torch.device("meta"):
        return stored_bytes(UNet2DConditionModel(cross_attention_dim=768), token_width=768)

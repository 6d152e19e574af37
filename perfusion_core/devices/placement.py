"""Puts the parts of a base model on a device: first cast, then move, each in its own precision."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from perfusion_core.devices.needs import Needs, needs_of
from perfusion_core.devices.offloading import Offloading
from perfusion_core.devices.options import Attention, DeviceOptions
from perfusion_core.devices.plans import Placement, choose_attention, choose_offload
from perfusion_core.memory import free_bytes


@dataclass(frozen=True, kw_only=True)
class Placed:
    """What was chosen for a base model, and the parts that take turns on the device."""

    device: torch.device
    needs: Needs
    offload: Placement
    attention: Attention
    offloading: Offloading

    @property
    def side_device(self) -> str:
        """The device for evaluator and segmenter: the CPU if the base model itself takes turns."""
        return str(self.device) if self.offload == "none" else "cpu"


def place(
    unet: Any,
    vae: Any,
    encoders: Sequence[Any],
    *,
    device: torch.device,
    dtype: torch.dtype,
    options: DeviceOptions,
    pixels: int,
) -> Placed:
    """Cast the modules, choose what to offload, and move what stays on the device.

    `pixels` are those of an image of the base model's own size. Each weight is cast before it is
    moved, and before the next weight is cast: neither the device nor the machine ever holds a
    second copy of a part.
    """
    free = free_bytes(device)
    of_vae = _vae_dtype(vae, device=device, dtype=dtype)
    unfused = device.type == "mps"  # torch has no kernel there that holds no scores
    sliced = needs_of(unet, vae, encoders, dtype=dtype, vae_dtype=of_vae, fused=False, sliced=True)
    whole = needs_of(unet, vae, encoders, dtype=dtype, vae_dtype=of_vae, fused=not unfused)
    attention = options.attention
    if attention == "auto":
        attention = choose_attention(whole, pixels=pixels, free=free if unfused else None)
    needs = {
        "sdpa": whole,
        "math": needs_of(unet, vae, encoders, dtype=dtype, vae_dtype=of_vae, fused=False),
        "sliced": sliced,
    }[attention]
    offload = options.offload
    if offload == "auto":
        shares = device.type != "cuda"  # its memory is the machine's
        offload = "none" if shares else choose_offload(needs, pixels=pixels, free=free)
    set_attention(unet, attention)
    _cast(unet, dtype)
    _cast(vae, of_vae)
    for encoder in encoders:
        _cast(encoder, torch.float32)
    parts = {"text": list(encoders), "vae": [vae], "unet": [unet]}
    leaving = {"none": (), "text": ("text",), "model": tuple(parts)}[offload]
    for name, modules in parts.items():
        if name not in leaving:
            for module in modules:
                module.to(device)
    offloading = Offloading(
        {name: parts[name] for name in leaving},
        device=device,
        resting="unet" if "unet" in leaving else None,
    )
    return Placed(
        device=device, needs=needs, offload=offload, attention=attention, offloading=offloading
    )


def set_attention(unet: Any, attention: Attention) -> None:
    """Let the U-Net's attention compute as chosen; torch's fused kernels are diffusers' own."""
    from diffusers.models.attention_processor import AttnProcessor, SlicedAttnProcessor

    if attention == "math":
        unet.set_attn_processor(AttnProcessor())
    elif attention == "sliced":
        unet.set_attn_processor(SlicedAttnProcessor(1))


def _vae_dtype(vae: Any, *, device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """Return the VAE's dtype: float32, unless its configuration says that it needs no upcast.

    SDXL's first VAE gives NaN in float16. In bfloat16 neighbouring grey levels of an image merge,
    so a VAE without upcast runs in float16, also if the U-Net is in bfloat16.
    """
    half = dtype in (torch.bfloat16, torch.float16) and device.type != "cpu"
    return torch.float16 if half and vae.config.get("force_upcast") is False else torch.float32


def _cast(module: Any, dtype: torch.dtype) -> None:
    """Cast a module weight by weight; `module.to(dtype)` of diffusers would warn every time."""
    torch.nn.Module.to(module, dtype)

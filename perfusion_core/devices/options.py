"""How a base model uses its device: precision, offloading and attention. Imports torch lazily."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from perfusion_core.errors import BaseModelError

if TYPE_CHECKING:
    import torch

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
Offload = Literal["auto", "none", "text", "model"]
Attention = Literal["auto", "sdpa", "math", "sliced"]
BackendName = Literal["auto", "eager", "openvino", "cuda-graphs", "compiled"]


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """The options of a device; `auto` chooses by the device and its free memory.

    `offload` says what leaves the device while it is not used: nothing, the text encoders, or each
    of U-Net, text encoders and VAE ("model"). `attention` chooses torch's fused kernels (sdpa),
    plain matrix products (math), or one head at a time (sliced), which needs the least memory where
    no fused kernel exists. `backend` says what computes the U-Net of a sampling step: torch, one
    kernel after another (eager), a graph of OpenVINO on a CPU, or on a GPU CUDA graphs of torch's
    kernels (cuda-graphs) or of compiled ones (compiled).
    """

    dtype: DtypeName = "auto"
    offload: Offload = "auto"
    attention: Attention = "auto"
    backend: BackendName = "auto"

    def check(self, device: "torch.device") -> None:
        """Raise BaseModelError if the device cannot do what the options ask for."""
        if self.dtype == "float16" and device.type == "cpu":
            raise BaseModelError(
                "float16 is not for a CPU, which computes it slowly: set PERFUSION_DTYPE to "
                "float32, or to bfloat16 for half the memory."
            )
        if self.dtype == "bfloat16" and device.type == "cuda" and not _knows_bfloat16(device):
            raise BaseModelError(
                f"The GPU {device} is too old for bfloat16: set PERFUSION_DTYPE to float16 or auto."
            )
        if self.offload in ("text", "model") and device.type != "cuda":
            raise BaseModelError(
                f"Offloading saves nothing on {device.type}, whose memory is the machine's: set "
                "PERFUSION_OFFLOAD to none or auto."
            )


AUTO = DeviceOptions()
"""All options chosen by the device."""


def device_of(name: str) -> "torch.device":
    """Return the device of a name; `auto` is CUDA if there is one, else MPS, else the CPU.

    Raises BaseModelError if this machine does not have the device.
    """
    import torch

    count = torch.cuda.device_count()
    if name == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if count else "mps" if mps else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= count:
        raise BaseModelError(
            f"torch finds {count} CUDA devices here, so there is no {name}: set PERFUSION_DEVICE "
            "to auto, or install a torch and a driver that find the GPU."
        )
    return device


def dtype_of(name: DtypeName, device: "torch.device") -> "torch.dtype":
    """Return the U-Net's dtype; `auto` is half precision on a GPU of CUDA, else float32."""
    import torch

    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    if device.type != "cuda":
        return torch.float32
    # GPUs before Ampere only emulate bfloat16, which is slow; their tensor cores support float16.
    return torch.bfloat16 if _knows_bfloat16(device) else torch.float16


def _knows_bfloat16(device: "torch.device") -> bool:
    import torch

    with torch.cuda.device(device):  # torch answers for the current device
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))

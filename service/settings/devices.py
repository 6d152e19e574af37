"""The settings of the device that the base model runs on."""

from typing import Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from perfusion_core.devices.options import (
    Attention,
    BackendName,
    DeviceOptions,
    DtypeName,
    Offload,
)


class DeviceSettings(BaseModel):
    """The device, and how the base model uses it; `Settings` inherits these fields."""

    device: str = Field(
        default="auto",
        description="Where the base model runs: auto, cpu, cuda, cuda:N or mps.",
        examples=["auto"],
    )
    batches: Literal["fast", "exact"] = Field(
        default="fast",
        description="exact: an image has the same bits in any batch; a single image takes longer.",
        examples=["fast", "exact"],
    )
    dtype: DtypeName = Field(
        default="auto",
        description="Precision of the U-Net; auto: what its device computes fastest.",
        examples=["auto", "float32", "bfloat16", "float16"],
    )
    offload: Offload = Field(
        default="auto",
        description="What leaves a GPU while it is not used; auto: what its memory demands.",
        examples=["auto", "none", "text", "model"],
    )
    attention: Attention = Field(
        default="auto",
        description="How the U-Net computes attention; auto: torch's fused kernels.",
        examples=["auto", "sdpa", "math", "sliced"],
    )

    backend: BackendName = Field(
        default="auto",
        description="What computes the U-Net; auto: a graph, if it is faster than torch.",
        examples=["auto", "eager", "openvino", "cuda-graphs", "compiled"],
    )

    @field_validator("dtype", "offload", "attention", "backend", mode="before")
    @classmethod
    def _in_small_letters(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("dtype")
    @classmethod
    def _check_dtype(cls, value: DtypeName, info: ValidationInfo) -> DtypeName:
        if value in ("bfloat16", "float16") and info.data.get("batches") == "exact":
            raise ValueError("PERFUSION_BATCHES=exact computes in float32")
        if value == "float16" and info.data.get("device") == "cpu":
            raise ValueError("a CPU computes float16 slowly, and bfloat16 takes as little memory")
        return value

    @field_validator("backend")
    @classmethod
    def _check_backend(cls, value: BackendName, info: ValidationInfo) -> BackendName:
        if value not in ("auto", "eager") and info.data.get("batches") == "exact":
            raise ValueError("PERFUSION_BATCHES=exact computes in torch")
        return value

    @property
    def device_options(self) -> DeviceOptions:
        """How the base model uses its device; exact batches imply float32 and torch."""
        exact = self.batches == "exact"
        return DeviceOptions(
            dtype="float32" if exact else self.dtype,
            offload=self.offload,
            attention=self.attention,
            backend="eager" if exact else self.backend,
        )

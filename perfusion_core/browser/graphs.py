"""A base model as two ONNX graphs: one step of sampling, and latents to pixels.

A step's graph holds guidance and the scheduler, so a page only runs it once for each step. A step
of DDIM without noise is linear in the latents x and the prediction p: the next latents are
`a x + b p`, whatever the base model predicts.
"""

import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import torch
from torch import Tensor

from perfusion_core.config import GenerateConfig
from perfusion_core.errors import BaseModelError
from perfusion_core.sampling import schedulers

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel

_MOST_WEIGHTS = 100_000_000  # of a U-Net: 100 MB in int8, more than a visitor waits for
_OPSET = 18


def check(base: "BaseModel") -> None:
    """Raise BaseModelError if a page cannot draw with this base model."""
    weights = sum(weight.numel() for weight in base.unet.parameters())
    if weights > _MOST_WEIGHTS:
        raise BaseModelError(
            f"{base.name} has a U-Net of {weights / 1e6:.0f} million weights, and a browser holds "
            f"at most {_MOST_WEIGHTS / 1e6:.0f} million: name a smaller base model."
        )
    if base.family == "sdxl" or base.unet.config.time_cond_proj_dim is not None:
        raise BaseModelError(
            f"The U-Net of {base.name} takes more than Keys and Values, which a page has not."
        )


def sampling_steps(base: "BaseModel", config: GenerateConfig) -> list[tuple[float, float, float]]:
    """Return the timestep, a and b of each step of DDIM: the next latents are `a x + b p`.

    Raises BaseModelError if the base model's schedule limits predictions, which is not linear.
    """
    scheduler = schedulers.begin(base, config)
    if scheduler.config.clip_sample or scheduler.config.thresholding:
        raise BaseModelError(f"The schedule of {base.name} limits predictions: no page can do so.")
    zero, unit = torch.zeros(1), torch.ones(1)

    def stepped(predicted: Tensor, t: Tensor, latents: Tensor) -> float:
        return float(scheduler.step(predicted, t, latents).prev_sample)

    return [(float(t), stepped(zero, t, unit), stepped(unit, t, zero)) for t in scheduler.timesteps]


def step_graph(base: "BaseModel", config: GenerateConfig, *, tokens: int) -> onnx.ModelProto:
    """Return the graph of a step: latents (1, c, h, w), step (3,), packed (R, N, 2 Σ d_l).

    `step` is a row of `sampling_steps`. The R rows of `packed` are the negative prompt and the
    prompt, or the prompt alone without guidance. The output is the next latents.
    """
    rows = 2 if config.guidance_scale > 1 else 1
    side, channels = int(base.unet.config.sample_size), int(base.unet.config.in_channels)
    given = {
        "latents": torch.zeros(1, channels, side, side),
        "step": torch.tensor([500.0, 1.0, 1.0]),
        "packed": torch.zeros(rows, tokens, base.packed_width),
    }
    return _exported(_Step(base.unet, config), given, output="next")


def decoder_graph(base: "BaseModel") -> onnx.ModelProto:
    """Return the graph from latents (1, c, h, w) to grey levels (H, W, 3), 0 to 255."""
    side, channels = int(base.unet.config.sample_size), int(base.unet.config.in_channels)
    given = {"latents": torch.zeros(1, channels, side, side)}
    return _exported(_Decoder(base.vae), given, output="pixels")


class _Step(torch.nn.Module):
    def __init__(self, unet: Any, config: GenerateConfig) -> None:
        super().__init__()
        self._unet, self._config = unet, config

    def forward(self, latents: Tensor, step: Tensor, packed: Tensor) -> Tensor:
        rows = packed.shape[0]
        predicted = self._unet(
            latents.expand(rows, -1, -1, -1),
            step[:1].expand(rows),
            encoder_hidden_states=packed,
            return_dict=False,
        )[0]
        guided = schedulers.guided(
            predicted, scale=self._config.guidance_scale, rescale=self._config.guidance_rescale
        )
        return step[1] * latents + step[2] * guided


class _Decoder(torch.nn.Module):
    def __init__(self, vae: Any) -> None:
        super().__init__()
        self._vae = vae

    def forward(self, latents: Tensor) -> Tensor:
        config = self._vae.config
        scaled = latents / config.scaling_factor + (config.shift_factor or 0.0)
        pixels = self._vae.decode(scaled, return_dict=False)[0]  # (1, 3, H, W), about -1 to 1
        levels: Tensor = ((pixels[0].permute(1, 2, 0) + 1) * 127.5).clamp(0, 255).round()
        return levels


@torch.no_grad()
def _exported(module: torch.nn.Module, given: dict[str, Tensor], *, output: str) -> onnx.ModelProto:
    """Return a traced graph of fixed sizes.

    Torch's newer exporter takes 25 times as long, needs another library, and writes the folders of
    this machine into the graph.
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # Tracing fixes decisions by sizes, and the sizes are fixed. The exporter is deprecated.
        warnings.simplefilter("ignore")
        file = Path(folder) / "graph.onnx"
        torch.onnx.export(
            module.eval(),
            tuple(given.values()),
            file,
            input_names=list(given),
            output_names=[output],
            opset_version=_OPSET,
            dynamo=False,
        )
        return onnx.load(file)

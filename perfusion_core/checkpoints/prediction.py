"""What a single file's U-Net predicts: noise (epsilon) or velocity (v). Its names do not say it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

PredictionType = Literal["epsilon", "v_prediction"]
_SAYS_V = re.compile(r"^\s*parameterization:\s*[\"']?v[\"']?\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Prediction:
    """The type of prediction, and whether the noise schedule ends without signal (zero SNR)."""

    type: PredictionType
    zero_snr: bool = False

    def scheduler_options(self) -> dict[str, Any]:
        """Return what a scheduler's configuration says about this prediction."""
        zero = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        return {"prediction_type": self.type, **(zero if self.zero_snr else {})}


def prediction_of(
    tensors: Mapping[str, Tensor], *, written: Mapping[str, str], yaml_file: Path, family: str,
    unet: Any, scheduler: Any,
) -> Prediction:  # fmt: skip
    """Tell the prediction from what the author wrote, and for Stable Diffusion 2.x by trying it.

    Authors write it as an empty tensor (`v_pred`, `ztsnr`), as a safetensors entry
    (`modelspec.prediction_type`) or as a .yaml file with the checkpoint's name. Without a word,
    Stable Diffusion 1.x and XL predict noise.
    """
    zero_snr = "ztsnr" in tensors
    if "v_pred" in tensors or written.get("modelspec.prediction_type") in ("v", "v_prediction"):
        return Prediction("v_prediction", zero_snr)
    if yaml_file.is_file():
        return Prediction(
            "v_prediction" if _SAYS_V.search(yaml_file.read_text("utf-8")) else "epsilon", zero_snr
        )
    if family == "sd2" and written.get("modelspec.prediction_type") != "epsilon":
        return Prediction("epsilon" if predicts_noise(unet, scheduler) else "v_prediction")
    return Prediction("epsilon")


@torch.no_grad()
def predicts_noise(unet: Any, scheduler: Any) -> bool:
    """Return whether a U-Net gives back the noise that it is shown at the last time.

    At the last time a latent is noise almost alone. A U-Net that predicts noise repeats it
    (correlation near 1); one that predicts velocity gives the image that it expects, which has
    little to do with the noise.
    """
    side = unet.config.sample_size
    draw = torch.Generator().manual_seed(0)
    latent = torch.randn(1, unet.config.in_channels, side, side, generator=draw).to(unet.dtype)
    encoding = torch.zeros(1, 77, unet.config.cross_attention_dim, dtype=unet.dtype)
    time = scheduler.config.num_train_timesteps - 1
    told = unet(latent, time, encoder_hidden_states=encoding).sample
    pair = torch.stack([latent.flatten(), told.flatten()]).float()
    return bool(torch.corrcoef(pair)[0, 1] > 0.5)

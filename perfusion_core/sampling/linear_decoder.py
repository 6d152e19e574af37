"""Latents to small pictures without the VAE, for previews of many images at once.

Each latent becomes a patch of pixels: an affine function of the latent and its eight neighbours.
The function is fitted by least squares to what the VAE makes of some of the images. So it needs no
weights of its own, and follows any VAE.
"""

from collections.abc import Hashable

import torch
from torch import Tensor
from torch.nn import functional

_PATCH_PIXELS = 4  # a side, for each latent
_RIDGE = 3e-3  # of the mean square of a feature


class LinearDecoder:
    """The affine function for the images of one request; it works on the CPU."""

    def __init__(self) -> None:
        self._sums: dict[Hashable, tuple[Tensor, Tensor]] = {}
        self._W: Tensor | None = None  # (9c + 1, 3 * patch²)
        self._patch = 1  # pixels a side, for each latent

    def learn(self, image: Hashable, latents: Tensor, pixels: Tensor) -> None:
        """Fit to the pixels (1, 3, H, W) that the VAE made of latents (1, c, h, w).

        An image counts as it was last seen: its early steps look unlike its late ones.
        """
        factor = pixels.shape[-1] // latents.shape[-1]
        self._patch = min(_PATCH_PIXELS, factor)
        small = functional.avg_pool2d(pixels.cpu().double(), factor // self._patch)
        X = _features(latents)  # (h * w, 9c + 1)
        Y = functional.pixel_unshuffle(small, self._patch)[0].flatten(1).T  # (h * w, 3 * patch²)
        self._sums[image] = X.T @ X, X.T @ Y
        XX = torch.stack([each for each, _ in self._sums.values()]).sum(0)
        XY = torch.stack([each for _, each in self._sums.values()]).sum(0)
        ridge = _RIDGE * XX.diagonal().mean() * torch.eye(len(XX), dtype=XX.dtype)
        self._W = torch.linalg.solve(XX + ridge, XY)

    def decode(self, latents: Tensor) -> Tensor | None:
        """Return pixels (1, 3, h * patch, w * patch), about -1 to 1; None before `learn`."""
        if self._W is None:
            return None
        patches = (_features(latents) @ self._W).T  # (3 * patch², h * w)
        shaped = patches.reshape(1, -1, *latents.shape[-2:])
        return functional.pixel_shuffle(shaped, self._patch).float()


def _features(latents: Tensor) -> Tensor:
    """Return each of latents (1, c, h, w) with its neighbours and a one, as (h * w, 9c + 1)."""
    padded = functional.pad(latents.cpu().double(), (1, 1, 1, 1), mode="replicate")
    around = functional.unfold(padded, 3)[0].T  # (h * w, 9c)
    return torch.cat([around, around.new_ones(len(around), 1)], dim=1)

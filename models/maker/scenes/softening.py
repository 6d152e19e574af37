"""Make scenes look less like drawings: move, mirror, wave and soften them, add light noise.

A denoiser draws softly, and its lines wobble. A judge that has learnt from sharp scenes alone
relies on edges, and fails on such images.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CELLS = 8  # cells per side of a picture; the judges name what each cell shows
WAVE_CELLS = 10  # grid of the waves, coarse enough to bend a leg without breaking it


def soften(
    pictures: Tensor, shown: Tensor, random: torch.Generator, *, width: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Soften pictures (n, 3, s, s) in -1..1, and move their maps (n, s, s) in the same way.

    A map says what each pixel shows. `width` 0 moves nothing and 1 moves by up to a tenth of the
    side; softness does not depend on it. `random` is a generator of the CPU.
    """
    count, side, device = len(pictures), pictures.shape[-1], pictures.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=random)

    zoom = 1 + 0.3 * width * (uniform(count) - 0.5)
    turn = 0.3 * width * (uniform(count) - 0.5)
    mirror = torch.where(uniform(count) < 0.5, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = zoom * mirror * turn.cos(), -zoom * turn.sin()
    theta[:, 1, 0], theta[:, 1, 1] = zoom * mirror * turn.sin(), zoom * turn.cos()
    theta[:, :, 2] = 0.2 * width * (uniform(count, 2) - 0.5)
    grid = functional.affine_grid(theta, [count, 3, side, side], align_corners=False)
    wave = torch.randn(count, 2, WAVE_CELLS, WAVE_CELLS, generator=random)
    wave = wave * 0.05 * uniform(count, 1, 1, 1) * (uniform(count, 1, 1, 1) < 0.6)
    waves = functional.interpolate(wave, side, mode="bicubic", align_corners=False)
    grid = (grid + waves.permute(0, 2, 3, 1)).to(device)
    moved = functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    maps = functional.grid_sample(
        shown[:, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False
    )
    soft = (uniform(count) < 0.4).to(device)
    if bool(soft.any()):
        factor = int(torch.randint(2, 4, (1,), generator=random))
        small = functional.interpolate(moved[soft], scale_factor=1 / factor, mode="area")
        moved[soft] = functional.interpolate(small, side, mode="bicubic", align_corners=False)
    noisy = 0.06 * (uniform(count, 1, 1, 1) < 0.3)
    moved = moved + (noisy * torch.randn(pictures.shape, generator=random)).to(device)
    return moved.clamp(-1, 1), maps[:, 0].long()


def share_of_cells(shown: Tensor, kinds: int) -> Tensor:
    """Return the share of each kind in each cell, (n, 64, kinds), for maps (n, side, side)."""
    count, size = len(shown), shown.shape[1] // CELLS
    cells = shown.view(count, CELLS, size, CELLS, size).transpose(2, 3)
    cells = cells.reshape(count, CELLS * CELLS, size * size)
    each = torch.full(cells.shape, 1 / size**2, device=shown.device)
    shares = torch.zeros(count, CELLS * CELLS, kinds, device=shown.device)
    return shares.scatter_add_(2, cells, each)

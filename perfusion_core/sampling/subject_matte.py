"""Where an edit shows its subject, so that the picture around the subject can be kept.

Each of the prompt's concepts is where its word has much of the cross-attention during the first
half of the steps. In the other half the picture's latents are known everywhere else, so the subject
meets the picture's own background (docs/decisions/0017-an-edit-may-keep-the-background.md).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from perfusion_core.errors import EditError
from perfusion_core.sampling.attention_maps import AttentionMaps
from perfusion_core.text.words import Word

_STEPS_LEFT_WHEN_FOUND = 0.5
# A place shows a concept if the concept's word has this share of the most attention that it has.
_LEAST_SHARE = 0.35
# Maps of this many places a side tell objects apart; finer ones are noisier (arXiv 2208.01626).
_PLACES_A_SIDE = 16
_LEAST = 1e-6

_RADIUS = 6 / 128  # of the window's side
_SMOOTHNESS = 1e-2  # of pixels in [-1, 1], squared


class SubjectMatte:
    """The places of one image's latents that show the prompt's concepts."""

    def __init__(
        self, words: Sequence[Word], *, token_count: int, anew: Tensor, unet_config: Any
    ) -> None:
        """Start without any step; `anew` (1, 1, h, w) is positive where the mask is white.

        Raises EditError if the prompt names no concept.
        """
        concepts = [word for word in words if word.concept is not None]
        if not concepts:
            raise EditError(
                "keep_background needs a concept in the prompt: what the concept's word shows is "
                "new, and around it the picture is kept."
            )
        grid = (anew.shape[2], anew.shape[3])
        self.maps = AttentionMaps(
            concepts, token_count=token_count, grid=grid, device=anew.device,
            layer_grid=_layer_grid(unet_config, grid),
        )  # fmt: skip
        self.found: Tensor | None = None  # (1, 1, h, w), True where a concept is shown
        self._white = anew > 0

    def keep_step(self, *, left: int, total: int) -> None:
        """Include a step, after which `left` of `total` are left; then perhaps find the subject."""
        if self.found is not None:
            return
        self.maps.keep_step()
        if left <= _STEPS_LEFT_WHEN_FOUND * total:
            self.found = self._find()

    def opacity(self, pixels: Tensor) -> Tensor:
        """Return how much of each decoded pixel (3, H, W) is the subject's: (1, H, W) in [0, 1].

        The edges of the found places are moved to those of the pixels.
        """
        assert self.found is not None  # all steps are done
        size = (pixels.shape[1], pixels.shape[2])
        coarse = F.interpolate(self.found.float(), size, mode="bilinear", align_corners=False)
        radius = max(1, round(_RADIUS * max(size)))
        return guided_filter(coarse[0], guide=pixels.float(), radius=radius)

    def _find(self) -> Tensor:
        shown = torch.zeros_like(self._white)
        for each in self.maps.means():
            share = each.share / (1 - each.begin).clamp(min=_LEAST)  # (h, w)
            smooth = _mean_around(share[None, None].to(self._white.device), 1)
            shown |= smooth >= _LEAST_SHARE * smooth[self._white].max()
        return shown & self._white


def guided_filter(values: Tensor, *, guide: Tensor, radius: int) -> Tensor:
    """Return values (1, H, W) with the edges of a guide (3, H, W), in [0, 1].

    Around each pixel the values become a linear function of the guide's colours (He, Sun and Tang,
    "Guided Image Filtering", ECCV 2010, equations 14 to 16).
    """
    p, I = values[None], guide[None]  # noqa: E741 (the paper's letters)
    mean_p, mean_I = _mean_around(p, radius), _mean_around(I, radius)
    covariance = _mean_around(I * p, radius) - mean_I * mean_p  # (1, 3, H, W)
    products = _mean_around((I[:, :, None] * I[:, None]).flatten(1, 2), radius).unflatten(1, (3, 3))
    variance = products - mean_I[:, :, None] * mean_I[:, None]  # (1, 3, 3, H, W)
    regular = variance.permute(0, 3, 4, 1, 2) + _SMOOTHNESS * torch.eye(3, device=guide.device)
    a = torch.linalg.solve(regular, covariance.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    b = mean_p - (a * mean_I).sum(1, keepdim=True)
    filtered = (_mean_around(a, radius) * I).sum(1, keepdim=True) + _mean_around(b, radius)
    return filtered[0].clamp(0, 1)


def _mean_around(values: Tensor, radius: int) -> Tensor:
    side = 2 * radius + 1
    return F.avg_pool2d(values, side, stride=1, padding=radius, count_include_pad=False)


def _layer_grid(unet_config: Any, grid: tuple[int, int]) -> tuple[int, int]:
    """Return the grid of the coarsest cross-attention layers that tell objects apart."""
    height, width = grid
    found = None
    for kind in unet_config.down_block_types:
        if "CrossAttn" in kind and (found is None or min(height, width) >= _PLACES_A_SIDE):
            found = (height, width)
        height, width = -(-height // 2), -(-width // 2)
    assert found is not None  # every base model has cross-attention
    return found

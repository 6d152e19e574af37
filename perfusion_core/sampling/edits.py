"""Edits while sampling: the latents of the picture, and what a masked edit keeps of them.

An edit starts from the picture's latents under noise. A masked edit also puts the known latents,
at the level of noise that each step arrives at, back outside the mask after each step (blended
latent diffusion, arXiv 2206.02779).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from perfusion_core.editing.blending import Blend
from perfusion_core.editing.edit import Edit
from perfusion_core.editing.window import Window, window_around
from perfusion_core.errors import EditError
from perfusion_core.imaging.pixels import from_image, to_image
from perfusion_core.sampling.autoencoder import encode_pixels
from perfusion_core.sampling.subject_matte import SubjectMatte

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel
    from perfusion_core.config import GenerateConfig

_FULL = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskedPart:
    """What a masked edit paints anew, on the latents' grid, and how it goes into the picture."""

    anew: Tensor  # (1, 1, h, w) in [0, 1]: the share of the denoising in which a place is free
    pixels: Tensor  # (3, H, W): the window of the picture
    known: Tensor  # (1, H, W): 1 where the picture is kept
    blend: Blend

    @property
    def window(self) -> Window:
        """The part of the picture that the base model sees."""
        return self.blend.window


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedEdit:
    """An edit on the latents' grid. All images of a request share it."""

    latents: Tensor  # (1, c, h, w), without noise
    denoising_strength: float
    masked: MaskedPart | None

    @property
    def begins_with_noise(self) -> bool:
        """Return whether sampling starts from noise alone, as for a plain generation."""
        return self.masked is not None and self.denoising_strength == _FULL


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownLatents:
    """The known latents of one image, under the image's own noise."""

    edit: EncodedEdit
    noise: Tensor  # (1, c, h, w)

    def at_level(self, scheduler: Any, timestep: Tensor) -> Tensor:
        """Return the picture's latents at the level of noise before the next step.

        Schedulers with sigmas take the level of their own next step, others that of `timestep`.
        """
        noised: Tensor = scheduler.add_noise(self.edit.latents, self.noise, timestep[None])
        return noised

    def start(self, noise: Tensor, scheduler: Any, left: Tensor) -> Tensor:
        """Return the latents before the first step; `noise` is at the scheduler's first level."""
        return noise if self.edit.begins_with_noise else self.at_level(scheduler, left[0])

    def restore(
        self,
        latents: Tensor,
        scheduler: Any,
        left: Tensor,
        *,
        total: int,
        shown: Tensor | None = None,
    ) -> Tensor:
        """Return the latents after a step, with the known ones outside the mask.

        If it is known where the subject is `shown` (1, 1, h, w), all other latents are known, too.
        `left` are the timesteps that are left of `total`. The edge of the mask becomes free only
        in the last steps, later where less of a place is white (differential diffusion, arXiv
        2306.00950), so that what is painted meets its surroundings there.
        """
        masked = self.edit.masked
        if masked is None:
            return latents
        known = self.at_level(scheduler, left[0]) if len(left) else self.edit.latents
        free = (masked.anew > 0) & (masked.anew >= len(left) / total)
        if shown is not None:
            free = free & shown
        return torch.where(free, latents, known)


def edited_size(base: "BaseModel", config: "GenerateConfig", edit: Edit | None) -> tuple[int, int]:
    """Return width and height of what is sampled; a masked edit has the base model's own.

    Raises EditError if a masked edit asks for a size.
    """
    side = base.default_resolution
    if edit is None or edit.mask is None:
        return config.width or side, config.height or side
    if config.width is not None or config.height is not None:
        raise EditError(
            "An edit with a mask keeps the size of its picture: leave width and height out."
        )
    return side, side


def encode_edit(base: "BaseModel", edit: Edit, *, width: int, height: int) -> EncodedEdit:
    """Return an edit for sampling at this size: its latents, and its mask on their grid."""
    if edit.mask is None:
        fitted = ImageOps.fit(edit.picture, (width, height), Image.Resampling.LANCZOS)
        return EncodedEdit(
            latents=encode_pixels(base, from_image(fitted)[None]),
            denoising_strength=edit.denoising_strength,
            masked=None,
        )
    window = window_around(
        edit.mask,
        margin=edit.config.mask_margin,
        side=width,
        keeps_background=edit.config.keep_background,
    )
    pixels = from_image(window.cut(edit.picture)).to(base.device)  # (3, H, W)
    white = (from_image(window.cut_mask(edit.mask))[:1] + 1) / 2  # (1, H, W)
    latents = encode_pixels(base, pixels[None])
    return EncodedEdit(
        latents=latents,
        denoising_strength=edit.denoising_strength,
        masked=MaskedPart(
            anew=_anew(white, grid=(latents.shape[2], latents.shape[3])).to(base.device),
            pixels=pixels,
            known=(white == 0).float().to(base.device),
            blend=Blend(edit.picture, edit.mask, window=window, feather=edit.config.mask_feather),
        ),
    )


def finish(
    pixels: Tensor, known: KnownLatents | None, *, subject: SubjectMatte | None = None
) -> Image.Image:
    """Return the image of decoded pixels (3, H, W): for a masked edit, the picture it is in.

    With a `subject`, only the subject goes into the picture.
    """
    masked = None if known is None else known.edit.masked
    if masked is None:
        return to_image(pixels)
    opacity = None
    if subject is not None:
        opacity = to_image(subject.opacity(pixels).expand(3, -1, -1) * 2 - 1).getchannel(0)
    return masked.blend.paste(to_image(_matched(pixels, masked)), opacity=opacity)


def _anew(white: Tensor, *, grid: tuple[int, int]) -> Tensor:
    """Return how much of each place of the grid is white, (1, 1, h, w).

    In a line thinner than a place, the share is relative to the most of the neighbours: otherwise
    a thin mask would be free in a few steps only.
    """
    share = F.adaptive_avg_pool2d(white[None], grid)
    most = F.max_pool2d(share, kernel_size=3, stride=1, padding=1)
    return torch.where(share > 0, share / most.clamp(min=1e-6), 0.0)


def _matched(pixels: Tensor, masked: MaskedPart) -> Tensor:
    """Return decoded pixels with the colours of the picture at the mask's edge.

    The autoencoder shifts colours a little. The shift is known outside the mask; it is continued
    into the mask and fades over a few pixels, so that no edge is seen.
    """
    known = masked.known[None]
    shift = _blurred(torch.cat([(masked.pixels - pixels)[None] * known, known], dim=1))
    weight = shift[:, 3:]
    return pixels + (shift[:, :3] / (weight + _FADE))[0]


# How much known surroundings a pixel needs to take their shift of colour.
_FADE = 0.05
_BLUR = 9  # pixels of the window, three times


def _blurred(values: Tensor) -> Tensor:
    for _ in range(3):
        values = F.avg_pool2d(values, _BLUR, stride=1, padding=_BLUR // 2, count_include_pad=False)
    return values

"""The training pictures as inputs of the U-Net: latents and soft masks, computed once.

Only cross-attention's inputs depend on the concept, so latents and masks stay fixed during
training.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from perfusion_core.callbacks import RunOnDevice, run_at_once
from perfusion_core.config import TrainConfig
from perfusion_core.errors import PictureError
from perfusion_core.imaging.pixels import to_pixels
from perfusion_core.pictures.cropping import Crop
from perfusion_core.pictures.masks import FindObject, MaskSource, to_soft_mask, weakest
from perfusion_core.pictures.preparing import PreparedPicture, prepare_pictures
from perfusion_core.sampling.autoencoder import encode_pixels

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel


@dataclass(frozen=True)
class Examples:
    """The training pictures and their mirror images, encoded once."""

    prepared: list[PreparedPicture]
    squares: list[Image.Image]  # what the training sees of them
    latents: Tensor  # (M, c, h, w)
    masks: Tensor  # (M, 1, h, w), maximum 1 in each
    mask_source: MaskSource  # the weakest
    digest: str  # identifies the pictures in a saved state


def encode_pictures(
    base: "BaseModel",
    pictures: Sequence[Image.Image],
    config: TrainConfig,
    *,
    superclass: str,
    masks: Sequence[Image.Image | None] | None = None,
    crops: Sequence[Crop | None] | None = None,
    segmenter: FindObject | None = None,
    run_on_device: RunOnDevice = run_at_once,
) -> Examples:
    """Encode pictures and their masks, with mirror images if the config has `flip`.

    The arguments are those of `train`. Each picture, with its mirror image, is a separate call of
    `run_on_device`, and so is each call of the segmenter. Raises PictureError.
    """
    if not pictures:
        raise PictureError("A concept needs at least one picture.")
    find: FindObject | None = None
    if segmenter is not None:

        def find(picture: Image.Image, superclass: str) -> Image.Image:
            return run_on_device(lambda: segmenter(picture, superclass))

    prepared = prepare_pictures(
        pictures, masks=masks, crops=crops, superclass=superclass, segmenter=find
    )
    squares = [picture.square for picture in prepared]
    count = len(prepared)
    pixels, M = run_on_device(lambda: _to_tensors(base, prepared, squares, config))
    encoded = [run_on_device(partial(encode_pixels, base, pixels[k::count])) for k in range(count)]

    def gather() -> Examples:
        return Examples(
            prepared=prepared,
            squares=squares,
            latents=torch.stack(encoded, dim=1).flatten(0, 1),  # pictures first, then mirrors
            masks=M.to(base.device),
            mask_source=weakest([picture.mask_source for picture in prepared]),
            digest=_digest(prepared),
        )

    return run_on_device(gather)


def _to_tensors(
    base: "BaseModel",
    prepared: Sequence[PreparedPicture],
    squares: Sequence[Image.Image],
    config: TrainConfig,
) -> tuple[Tensor, Tensor]:
    """Return pixels (M, 3, side, side) and soft masks (M, 1, h, w)."""
    side = config.resolution or base.default_resolution
    latent_side = side // base.vae_factor
    masks = [picture.square_mask for picture in prepared]
    pixels = torch.stack([to_pixels(square, side=side) for square in squares])
    M = torch.stack([to_soft_mask(mask, side=side, latent_side=latent_side) for mask in masks])
    if config.flip:
        pixels, M = torch.cat([pixels, pixels.flip(-1)]), torch.cat([M, M.flip(-1)])
    return pixels, M


def _digest(prepared: Sequence[PreparedPicture]) -> str:
    """Return the hash of what the caller gave: pictures, masks and crops.

    The bits of a segmenter's mask depend on the segmenter's device, so these masks, and the crops
    around them, do not count.
    """
    digest = hashlib.sha256()
    for seen in prepared:
        picture, source = seen.picture, seen.mask_source
        given = None if source == "segmenter" else seen.mask
        digest.update(repr((picture.mode, picture.size, source, seen.given_crop)).encode())
        digest.update(picture.tobytes())
        if given is not None:
            digest.update(given.tobytes())
    return digest.hexdigest()

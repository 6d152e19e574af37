"""Chooses each picture's soft mask M of the object, and records the mask's source (METHOD 5)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from PIL import Image, ImageChops
from torch import Tensor
from torch.nn import functional as F

from perfusion_core.errors import BaseModelError, PictureError
from perfusion_core.hub import find_folder, has_safetensors
from perfusion_core.imaging.pixels import to_pixels

# A tenth of 255. If a segmenter finds an object, some pixels are far brighter.
_LEAST_FOUND = 26
FindObject = Callable[[Image.Image, str], Image.Image]
"""A function that returns the soft mask of a superclass in a picture, such as a Segmenter."""
MaskSource = Literal["upload", "alpha", "segmenter", "uniform"]
_ORDER: list[MaskSource] = ["upload", "alpha", "segmenter", "uniform"]


class Segmenter:
    """A zero-shot segmenter prompted with the superclass: CLIPSeg, through transformers."""

    def __init__(self, name_or_path: str | Path, *, device: str = "cpu") -> None:
        """Load CLIPSeg from a folder, or a hub's NAME or NAME@REVISION.

        Raises BaseModelError if loading fails.
        """
        from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

        files = find_folder(name_or_path, role="segmenter")
        try:
            self.processor: Any = CLIPSegProcessor.from_pretrained(files)
            model: Any = CLIPSegForImageSegmentation.from_pretrained(
                files, use_safetensors=has_safetensors(files), weights_only=True
            )
        except (OSError, ValueError, UnpicklingError) as error:
            raise BaseModelError(
                f"The segmenter {str(name_or_path)!r} cannot be loaded: name a CLIPSeg model's "
                "folder or hub name."
            ) from error
        self.model = model.to(device).eval()

    @torch.no_grad()
    def __call__(self, picture: Image.Image, superclass: str) -> Image.Image:
        """Return the soft mask of `superclass` in the picture, as a grey image of the same size."""
        inputs = self.processor(
            text=[superclass], images=[picture.convert("RGB")], return_tensors="pt"
        ).to(self.model.device)
        soft = torch.sigmoid(self.model(**inputs).logits).reshape(1, 1, 352, 352)
        sized = F.interpolate(soft, picture.size[::-1], mode="bilinear", align_corners=False)
        return Image.fromarray((sized[0, 0] * 255).round().to("cpu", torch.uint8).numpy())


def choose_masks(
    pictures: Sequence[Image.Image],
    *,
    uploaded: Sequence[Image.Image | None] | None,
    segmenter: FindObject | None,
    superclass: str,
) -> tuple[list[Image.Image | None], list[MaskSource]]:
    """Return each picture's grey mask (None: uniform), and where each mask comes from.

    Raises PictureError as `choose_mask` does.
    """
    uploaded = uploaded or [None] * len(pictures)
    chosen = [
        choose_mask(picture, mask, number=number, segmenter=segmenter, superclass=superclass)
        for number, (picture, mask) in enumerate(zip(pictures, uploaded, strict=True), start=1)
    ]
    return [mask for mask, _ in chosen], [source for _, source in chosen]


def choose_mask(
    picture: Image.Image,
    uploaded: Image.Image | None,
    *,
    number: int,
    segmenter: FindObject | None,
    superclass: str,
) -> tuple[Image.Image | None, MaskSource]:
    """Return a picture's grey mask (None: uniform) and where the mask comes from.

    The first available source is used: the uploaded mask, the alpha channel, then the segmenter if
    the segmenter finds anything. Errors name the picture's `number`, from 1. Raises PictureError if
    the mask is all black, or if its size differs from the picture's size.
    """
    mask: Image.Image | None
    source: MaskSource
    if uploaded is not None:
        if uploaded.size != picture.size:
            raise PictureError(_other_size(number, mask=uploaded, picture=picture))
        mask, source = uploaded.convert("L"), "upload"
    elif (alpha := _alpha(picture)) is not None:
        mask, source = alpha, "alpha"
    elif segmenter is not None and _shows_something(found := segmenter(picture, superclass)):
        mask, source = found, "segmenter"
    else:
        return None, "uniform"
    if not mask.getbbox():
        raise PictureError(
            f"The mask of picture {number} is all black: paint the object white, or leave "
            "the mask out."
        )
    return mask, source


def weakest(sources: Sequence[MaskSource]) -> MaskSource:
    """Return the source that says least about the object, which a concept records."""
    return max(sources, key=_ORDER.index)


def to_soft_mask(mask: Image.Image | None, *, side: int, latent_side: int) -> Tensor:
    """Return a square mask as M on the latent grid, scaled to a maximum of 1.

    M has the shape (1, latent_side, latent_side). Raises PictureError if the mask is black.
    """
    if mask is None:
        return torch.ones(1, latent_side, latent_side)
    sized = mask.resize((side, side), Image.Resampling.BILINEAR)
    pixels = (to_pixels(sized, side=side)[:1] + 1) / 2  # (1, side, side) in [0, 1]
    M = F.adaptive_avg_pool2d(pixels[None], latent_side)[0]
    if float(M.max()) <= 0:
        raise PictureError(
            "A mask is black in the crop of its picture, which is what training sees: "
            "crop the picture around the object, or leave the crop out."
        )
    return M / M.max()


def _other_size(number: int, *, mask: Image.Image, picture: Image.Image) -> str:
    own, other = ("{} x {}".format(*image.size) for image in (mask, picture))
    return (
        f"The mask of picture {number} has {own} pixels and the picture {other}: send a mask of "
        "its picture's size."
    )


def _shows_something(found: Image.Image) -> bool:
    """Return whether a segmenter's mask is bright enough to be an object and not noise."""
    return any(found.convert("L").histogram()[_LEAST_FOUND:])


def _alpha(picture: Image.Image) -> Image.Image | None:
    """Return the alpha channel if some pixel is transparent, else None."""
    if not picture.has_transparency_data:
        return None
    alpha = picture.convert("RGBA").getchannel("A")
    return alpha if ImageChops.invert(alpha).getbbox() else None

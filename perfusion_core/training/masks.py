"""Chooses each picture's soft mask M of the object, and records the mask's source (METHOD 5)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image, ImageChops, ImageOps
from torch import Tensor
from torch.nn import functional as F

from perfusion_core.errors import PictureError
from perfusion_core.hub import find_folder
from perfusion_core.imaging.pixels import to_pixels

# A tenth of 255. If a segmenter finds an object, some pixels are far brighter.
_LEAST_FOUND = 26
FindObject = Callable[[Image.Image, str], Image.Image]
"""A function that returns the soft mask of a superclass in a picture, such as a Segmenter."""
MaskSource = Literal["upload", "alpha", "segmenter", "uniform"]


class Segmenter:
    """A zero-shot segmenter prompted with the superclass: CLIPSeg, through transformers."""

    def __init__(self, name_or_path: str | Path, *, device: str = "cpu") -> None:
        """Load CLIPSeg from a folder, or a hub's NAME or NAME@REVISION.

        Raises BaseModelError if there are no safetensors files, and OSError if a file is damaged.
        """
        from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

        files = find_folder(name_or_path, role="segmenter")
        self.processor: Any = CLIPSegProcessor.from_pretrained(files)
        model: Any = CLIPSegForImageSegmentation.from_pretrained(files, use_safetensors=True)
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
) -> tuple[list[Image.Image | None], MaskSource]:
    """Return one grey mask per picture (None: uniform), and the source to record in the concept.

    For each picture the first available source of a mask is used: the uploaded mask, the alpha
    channel, then the segmenter if the segmenter finds anything in the trained part of the picture.
    If the pictures have different sources, the weakest source is recorded. Raises PictureError if a
    mask is all black, or if a mask's size differs from the picture's size.
    """
    uploaded = uploaded or [None] * len(pictures)
    masks: list[Image.Image | None] = []
    order: list[MaskSource] = ["upload", "alpha", "segmenter", "uniform"]
    weakest = 0
    for number, (picture, mask) in enumerate(zip(pictures, uploaded, strict=True), start=1):
        source: MaskSource
        if mask is not None:
            if mask.size != picture.size:
                raise PictureError(_other_size(number, mask=mask, picture=picture))
            mask, source = mask.convert("L"), "upload"
        elif (alpha := _alpha(picture)) is not None:
            mask, source = alpha, "alpha"
        elif segmenter is not None and _shows_something(found := segmenter(picture, superclass)):
            mask, source = found, "segmenter"
        else:
            source = "uniform"
        if mask is not None and not mask.getbbox():
            raise PictureError(
                f"The mask of picture {number} is all black: paint the object white, or leave "
                "the mask out."
            )
        masks.append(mask)
        weakest = max(weakest, order.index(source))
    return masks, order[weakest]


def to_soft_mask(mask: Image.Image | None, *, side: int, latent_side: int) -> Tensor:
    """Return M on the latent grid, (1, latent_side, latent_side), scaled to a maximum of 1."""
    if mask is None:
        return torch.ones(1, latent_side, latent_side)
    square = _central_square(mask, side=side)
    pixels = (to_pixels(square, side=side)[:1] + 1) / 2  # (1, side, side) in [0, 1]
    M = F.adaptive_avg_pool2d(pixels[None], latent_side)[0]
    if float(M.max()) <= 0:
        raise PictureError(
            "A mask is black in the central square of its picture, which is what training sees: "
            "crop the picture around the object."
        )
    return M / M.max()


def _other_size(number: int, *, mask: Image.Image, picture: Image.Image) -> str:
    own, other = ("{} x {}".format(*image.size) for image in (mask, picture))
    return (
        f"The mask of picture {number} has {own} pixels and the picture {other}: send a mask of "
        "its picture's size."
    )


def _central_square(mask: Image.Image, *, side: int) -> Image.Image:
    return ImageOps.fit(mask, (side, side), Image.Resampling.BILINEAR)


def _shows_something(found: Image.Image) -> bool:
    """Return whether a segmenter's mask is bright enough to be an object and not noise."""
    square = _central_square(found, side=min(found.size))
    return any(square.convert("L").histogram()[_LEAST_FOUND:])


def _alpha(picture: Image.Image) -> Image.Image | None:
    """Return the alpha channel if some pixel is transparent, else None."""
    if not picture.has_transparency_data:
        return None
    alpha = picture.convert("RGBA").getchannel("A")
    return alpha if ImageChops.invert(alpha).getbbox() else None

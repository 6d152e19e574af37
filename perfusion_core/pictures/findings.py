"""What may be wrong with a picture to learn from, and what to do about it.

The thresholds were chosen on the demo's and the benchmark's photos (17 subjects, 5 photos each),
their degraded copies, and three photographs. Each threshold's comment says what it separates.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from perfusion_core.pictures.cropping import OBJECT_SHARE, Crop, cut, cut_mask, object_box

_MEASURED_SIDE_PIXELS = 256
# The variance of the Laplacian divided by the variance of the greys, at 256 pixels: a number that
# contrast does not change. The sharp photos have at least 0.035 on their object, and 0.016 in their
# middle; blurred by a Gaussian of 2 pixels they have at most 0.012 and 0.007.
_LEAST_SHARPNESS = 0.013
# Nothing can be said about the sharpness of an even grey: its variance is noise.
_LEAST_GREY_VARIANCE = 4.0
# The 95th percentile of the greys: at least 199 in the photos, so 80 in their copies at 40 % of the
# brightness, and at most 72 in their copies at 30 %.
_LEAST_BRIGHTNESS = 75
# The share of the object that has lost its colours to white: at most 0.01 in the photos.
_WHITE = 250
_LARGEST_WHITE_SHARE = 0.4
# CLIPSeg looks at 352 pixels in patches of 16: a smaller object is less than four patches wide.
_LEAST_OBJECT_SHARE = 0.15
# The share of the object's own width or height that lies on an edge of the picture.
_LARGEST_CUT_SHARE = 0.1
# Without a mask the middle of the crop stands for the object.
_MIDDLE = 0.6

_Greys = npt.NDArray[np.float64]
_Bits = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A problem of a picture: a code for programs, and two sentences for people."""

    code: str
    detail: str
    remedy: str


def findings_of(
    picture: Image.Image, mask: Image.Image | None, *, crop: Crop, resolution: int | None
) -> list[Finding]:
    """Return what a look at a single upright picture finds; `resolution` is the base model's."""
    small, region = _measured(picture, mask, crop)
    greys = np.asarray(small.convert("L"), dtype=np.float64)
    found = [
        _blurred(greys, region),
        _dark(greys),
        _overexposed(small, region),
        _small(crop, resolution),
    ]
    if mask is not None:
        found += [_tiny(mask), _cut_off(mask)]
    return [finding for finding in found if finding is not None]


def _measured(
    picture: Image.Image, mask: Image.Image | None, crop: Crop
) -> tuple[Image.Image, _Bits]:
    """Return the crop, at most 256 pixels wide, and which of its pixels are the object."""
    square = cut(picture, crop).convert("RGB")
    if square.width > _MEASURED_SIDE_PIXELS:
        square = square.resize((_MEASURED_SIDE_PIXELS,) * 2, Image.Resampling.LANCZOS)
    side = square.width
    if mask is None:
        region = np.zeros((side, side), dtype=np.bool_)
        edge = round(side * (1 - _MIDDLE) / 2)
        region[edge : side - edge, edge : side - edge] = True
        return square, region
    own = cut_mask(mask, crop)
    assert own is not None
    # Two pixels wider than the object, so that the object's outline counts.
    grown = own.resize(square.size, Image.Resampling.BILINEAR).filter(ImageFilter.MaxFilter(5))
    levels = np.asarray(grown)
    return square, levels >= max(1, levels.max() * OBJECT_SHARE)


def _blurred(greys: _Greys, region: _Bits) -> Finding | None:
    inner, own = greys[1:-1, 1:-1], region[1:-1, 1:-1]
    neighbours = greys[:-2, 1:-1] + greys[2:, 1:-1] + greys[1:-1, :-2] + greys[1:-1, 2:]
    if not own.any() or (variance := inner[own].var()) < _LEAST_GREY_VARIANCE:
        return None
    if (neighbours - 4 * inner)[own].var() / variance >= _LEAST_SHARPNESS:
        return None
    return Finding(
        code="blurred",
        detail="This picture is out of focus or was moved.",
        remedy="Use a sharp picture, or leave this one out.",
    )


def _dark(greys: _Greys) -> Finding | None:
    if np.percentile(greys, 95) >= _LEAST_BRIGHTNESS:
        return None
    return Finding(
        code="dark",
        detail="This picture is so dark that its object's colours are lost.",
        remedy="Take it again with more light, or leave it out.",
    )


def _overexposed(square: Image.Image, region: _Bits) -> Finding | None:
    white = np.asarray(square).min(axis=2) >= _WHITE
    if not region.any() or white[region].mean() <= _LARGEST_WHITE_SHARE:
        return None
    return Finding(
        code="overexposed",
        detail="Large parts of the object are plain white, without colour or detail.",
        remedy="Take it again with less light, or leave it out.",
    )


def _small(crop: Crop, resolution: int | None) -> Finding | None:
    side = max(crop[2:])
    if resolution is None or side >= resolution:
        return None
    return Finding(
        code="small-picture",
        detail=(
            f"The part around the object has {side} pixels, and the base model learns from "
            f"{resolution}: the picture is enlarged and its blur is learned."
        ),
        remedy="Use a larger picture, or go closer to the object.",
    )


def _tiny(mask: Image.Image) -> Finding | None:
    left, top, right, bottom = object_box(mask)
    share = max(right - left, bottom - top) / min(mask.size)
    if share >= _LEAST_OBJECT_SHARE:
        return None
    return Finding(
        code="tiny-subject",
        detail=f"The object takes {share:.0%} of the picture's side, too little to find it well.",
        remedy="Go closer, or crop the picture around the object.",
    )


def _cut_off(mask: Image.Image) -> Finding | None:
    left, top, right, bottom = object_box(mask)
    levels = np.asarray(mask.convert("L"))
    own = levels >= max(1, levels.max() * OBJECT_SHARE)
    sides = [own[0], own[-1], own[:, 0], own[:, -1]]
    lengths = [right - left] * 2 + [bottom - top] * 2
    if all(
        side.sum() <= _LARGEST_CUT_SHARE * length
        for side, length in zip(sides, lengths, strict=True)
    ):
        return None
    return Finding(
        code="cut-off-object",
        detail="The object reaches over the edge of the picture, so a part of it is missing.",
        remedy="Use a picture that shows the whole object.",
    )

"""Pictures that show nearly the same thing, which teach a concept their common scene."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

from perfusion_core.pictures.findings import Finding

# Bits of 192, the three channels' difference hashes of 8 x 8, at the best of the views below. The
# copies of 17 photos, saved again (JPEG 40), scaled, darkened to 70 %, blurred by 2 pixels or cut
# by 5 %, differ by at most 7 bits from their photo. Photos of one toy in different scenes differ by
# at least 12, but for one pair in 170 (4 bits), whose scenes look the same.
_LARGEST_DISTANCE = 8
_HASHED_SIDE_PIXELS = 128
# (share of the sides, x, y): x and y are the shares of the rest that lie left and above.
_VIEWS = (
    (1.0, 0.5, 0.5), (0.975, 0.5, 0.5), (0.95, 0.5, 0.5), (0.9, 0.5, 0.5),
    (0.95, 0.0, 0.0), (0.95, 1.0, 0.0), (0.95, 0.0, 1.0), (0.95, 1.0, 1.0),
)  # fmt: skip

_Bits = npt.NDArray[np.bool_]


def near_duplicates(pictures: Sequence[Image.Image]) -> Iterator[tuple[int, Finding]]:
    """Yield the index of each picture that repeats an earlier one, with a finding that names it."""
    hashes = [_hashes(picture) for picture in pictures]
    named: set[int] = set()
    for earlier, later in combinations(range(len(pictures)), 2):
        if later in named or _distance(hashes[earlier], hashes[later]) > _LARGEST_DISTANCE:
            continue
        named.add(later)
        yield (
            later,
            Finding(
                code="near-duplicate",
                detail=f"This picture is nearly the same as picture {earlier + 1}.",
                remedy="Leave one of the two out, or replace it by a picture in another place.",
            ),
        )


def _hashes(picture: Image.Image) -> list[_Bits]:
    """Return the bits of each view's three channels; the first view is the whole picture."""
    small = picture.convert("RGB").resize((_HASHED_SIDE_PIXELS,) * 2, Image.Resampling.BOX)
    return [
        np.stack([imagehash.dhash(channel).hash for channel in view.split()])
        for view in _views(small)
    ]


def _views(small: Image.Image) -> Iterator[Image.Image]:
    for share, x, y in _VIEWS:
        side = _HASHED_SIDE_PIXELS * share
        left, top = ((_HASHED_SIDE_PIXELS - side) * rest for rest in (x, y))
        yield small.crop((round(left), round(top), round(left + side), round(top + side)))


def _distance(first: list[_Bits], second: list[_Bits]) -> int:
    """Return the fewest bits between a whole picture and any view of the other."""
    pairs = [(first[0], view) for view in second] + [(view, second[0]) for view in first]
    return min(int((own != other).sum()) for own, other in pairs)

"""Blending what was painted into a picture: soft inside the mask, untouched outside of it.

Does not import torch. Everything is done in bytes and only in the mask's bounding box, so a large
picture takes little more memory than its own.
"""

from PIL import Image, ImageChops, ImageFilter

from perfusion_core.editing.masks import binary
from perfusion_core.editing.window import Window

# A feather that leaves less of the mask than this share is made narrower.
_LEAST_CORE = 0.5


class Blend:
    """A window's way back into its picture; the images of one edit share it."""

    def __init__(
        self, picture: Image.Image, mask: Image.Image, *, window: Window, feather: int
    ) -> None:
        """Prepare the soft mask. `feather` is in pixels of the picture, inside the white."""
        self.picture, self.window = picture, window
        white = binary(mask)
        box = white.getbbox()
        assert box is not None  # an Edit has a mask with some white
        self.box = box
        self.opacity = feathered(white, box, feather=feather)

    def paste(self, painted: Image.Image, *, opacity: Image.Image | None = None) -> Image.Image:
        """Return the picture with the painted square blended in; black pixels are unchanged.

        `opacity` (grey, of the square's size) is how much of each painted pixel counts.
        """
        image = self.picture.copy()
        soft = self.opacity
        if opacity is not None:
            soft = ImageChops.multiply(soft, self.window.back(opacity, self.box))
        image.paste(self.window.back(painted, self.box), self.box[:2], soft)
        return image


def feathered(white: Image.Image, box: tuple[int, int, int, int], *, feather: int) -> Image.Image:
    """Return the opacity inside `box` of a mask in black and white: 0 in black, 255 deep in white.

    From black to white it rises over `feather` pixels. The edge of the picture is no edge of the
    mask. A thin mask gets a narrower feather, so that at least half of its white is painted fully.
    """
    left, top, right, bottom = box
    reach = feather + 1
    wider = (
        max(left - reach, 0), max(top - reach, 0),
        min(right + reach, white.width), min(bottom + reach, white.height),
    )  # fmt: skip
    around = white.crop(wider)
    inside = (left - wider[0], top - wider[1], right - wider[0], bottom - wider[1])
    area = around.histogram()[255]
    while feather:
        radius = feather / 2
        core = around.filter(ImageFilter.BoxBlur(radius)).point(_only_255)
        soft = core.filter(ImageFilter.BoxBlur(radius))
        # Rounding may lose a single black pixel in a wide blur, so black is put back.
        soft = ImageChops.darker(soft, around)
        if soft.histogram()[255] >= _LEAST_CORE * area:
            return soft.crop(inside)
        feather //= 2
    return around.crop(inside)


def _only_255(grey: int) -> int:
    return 255 if grey == 255 else 0

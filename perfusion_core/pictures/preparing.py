"""Pictures as a training sees them: upright, in sRGB, each with its mask and its crop."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from perfusion_core.pictures import decoding
from perfusion_core.pictures.cropping import Crop, check_crop, crop_around, cut, cut_mask
from perfusion_core.pictures.masks import FindObject, MaskSource, choose_masks


@dataclass(frozen=True, kw_only=True)
class PreparedPicture:
    """An upright picture in sRGB, with the mask and the crop that a training uses."""

    picture: Image.Image
    mask: Image.Image | None  # grey, as large as the picture; None: uniform
    mask_source: MaskSource
    crop: Crop
    given_crop: Crop | None  # None: `crop` was chosen around the mask

    @property
    def square(self) -> Image.Image:
        """The part of the picture that the training sees."""
        return cut(self.picture, self.crop)

    @property
    def square_mask(self) -> Image.Image | None:
        """The same part of the mask; None: uniform."""
        return cut_mask(self.mask, self.crop)


def prepare_pictures(
    pictures: Sequence[Image.Image],
    *,
    masks: Sequence[Image.Image | None] | None,
    crops: Sequence[Crop | None] | None = None,
    superclass: str | None,
    segmenter: FindObject | None,
) -> list[PreparedPicture]:
    """Return the pictures upright and in sRGB, each with its mask and crop.

    `masks` and `crops` have an item for each picture; None chooses. The segmenter needs a
    superclass. Raises PictureError if a mask or a crop does not fit its picture.
    """
    upright = [decoding.prepare(picture) for picture in pictures]
    chosen, sources = choose_masks(
        upright,
        uploaded=masks and [mask and decoding.upright(mask) for mask in masks],
        segmenter=segmenter if superclass else None,
        superclass=superclass or "",
    )
    given = crops or [None] * len(upright)
    for picture, crop in zip(upright, given, strict=True):
        if crop is not None:
            check_crop(crop, size=picture.size)
    return [
        PreparedPicture(
            picture=picture,
            mask=mask,
            mask_source=source,
            crop=crop or crop_around(mask, size=picture.size),
            given_crop=crop,
        )
        for picture, mask, source, crop in zip(upright, chosen, sources, given, strict=True)
    ]

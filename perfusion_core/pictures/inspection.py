"""Look at pictures as a training would, and name what may go wrong, before anything is trained."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from perfusion_core.pictures import decoding
from perfusion_core.pictures.cropping import Crop
from perfusion_core.pictures.duplicates import near_duplicates
from perfusion_core.pictures.findings import Finding, findings_of
from perfusion_core.pictures.masks import FindObject, MaskSource
from perfusion_core.pictures.preparing import PreparedPicture, prepare_pictures

__all__ = ["Crop", "Finding", "InspectedPicture", "find_problems", "inspect_pictures"]

WITHOUT_MASK = frozenset({"no-mask", "no-object-found"})
"""The codes of the findings that say why a picture has no mask."""


@dataclass(frozen=True, kw_only=True)
class InspectedPicture:
    """What was found in a picture, and the crop and mask that a training would use."""

    findings: tuple[Finding, ...]
    crop: Crop
    mask_source: MaskSource
    mask: Image.Image | None  # grey, as large as the upright picture; None: uniform


def inspect_pictures(
    pictures: Sequence[Image.Image],
    *,
    masks: Sequence[Image.Image | None] | None,
    superclass: str | None,
    segmenter: FindObject | None,
    resolution: int | None = None,
) -> list[InspectedPicture]:
    """Return what a training would see of each picture, and what may be wrong with it.

    The segmenter needs a superclass. `resolution` is the side that the base model learns from, in
    pixels; without it no picture is called small. Raises PictureError as `prepare_pictures` does.
    """
    prepared = prepare_pictures(pictures, masks=masks, superclass=superclass, segmenter=segmenter)
    searched = superclass if segmenter is not None else None
    findings = find_problems(prepared, searched=searched, resolution=resolution)
    return [
        InspectedPicture(
            findings=tuple(found),
            crop=picture.crop,
            mask_source=picture.mask_source,
            mask=picture.mask,
        )
        for picture, found in zip(prepared, findings, strict=True)
    ]


def find_problems(
    prepared: Sequence[PreparedPicture], *, searched: str | None, resolution: int | None
) -> list[list[Finding]]:
    """Return what may be wrong with each picture; `searched` is what a segmenter looked for."""
    found = [
        [
            *_about_decoding(picture.picture),
            *([] if picture.mask else [_without_mask(searched)]),
            *findings_of(picture.picture, picture.mask, crop=picture.crop, resolution=resolution),
        ]
        for picture in prepared
    ]
    for index, finding in near_duplicates([picture.picture for picture in prepared]):
        found[index].insert(0, finding)
    return found


def _about_decoding(picture: Image.Image) -> list[Finding]:
    if not decoding.is_profile_ignored(picture):
        return []
    return [
        Finding(
            code="broken-profile",
            detail="This picture's colour profile cannot be read, so its colours may be wrong.",
            remedy="Save the picture again as sRGB.",
        )
    ]


def _without_mask(searched: str | None) -> Finding:
    """Return why there is no mask."""
    if searched is None:
        return Finding(
            code="no-mask",
            detail="Nothing says where the object is, so its surroundings are learned, too.",
            remedy=(
                "Give a mask, or a PNG with a transparent background. Or name the superclass, and "
                "fetch a segmenter, which finds the object: `perfusion prepare` does it."
            ),
        )
    return Finding(
        code="no-object-found",
        detail=f"No {searched} was found in this picture, so its surroundings are learned, too.",
        remedy="Check the superclass, send a mask, or use another picture.",
    )

"""Store uploaded pictures as blobs, and the pictures of a concept as rows."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from service.blobs import keys
from service.database.tables import PictureRow
from service.pictures import crops
from service.pictures.crops import Crop
from service.pictures.uploads import UploadedPicture
from service.wiring import Service


@dataclass(frozen=True, kw_only=True)
class StoredPicture:
    """A picture that is stored as a blob, with the blob of its mask if it has one."""

    blob_key: str
    mask_key: str | None
    width: int
    height: int
    uploaded_size: tuple[int, int]
    has_alpha: bool
    sha256: str
    mask_sha256: str | None
    size_bytes: int
    crop: Crop | None


def put(
    service: Service,
    picture: UploadedPicture,
    *,
    blob_key: str,
    mask_key: str,
    crop: Crop | None = None,
) -> StoredPicture:
    """Store a picture, and its mask if it has one, as blobs; `crop` is one of the stored size."""
    mask = picture.mask_png
    service.blobs.put(blob_key, picture.png)
    if mask is not None:
        service.blobs.put(mask_key, mask)
    return StoredPicture(
        blob_key=blob_key,
        mask_key=None if mask is None else mask_key,
        width=picture.width,
        height=picture.height,
        uploaded_size=picture.uploaded_size,
        has_alpha=picture.has_alpha,
        sha256=picture.sha256,
        mask_sha256=None if mask is None else hashlib.sha256(mask).hexdigest(),
        size_bytes=len(picture.png) + len(mask or b""),
        crop=crop,
    )


def put_of_concept(
    service: Service,
    concept_id: str,
    position: int,
    picture: UploadedPicture,
    *,
    asked: Sequence[Crop | None],
) -> StoredPicture:
    """Store a picture of a concept; raise Invalid if the crop that was asked for is wrong."""
    crop = asked[position] if position < len(asked) else None
    return put(
        service,
        picture,
        blob_key=keys.picture_key(concept_id, position),
        mask_key=keys.mask_key(concept_id, position),
        crop=crop
        and crops.to_stored(
            crop,
            picture,
            least_side=service.settings.min_picture_side,
            pointer=f"/crops/{position}",
        ),
    )


def new_row(concept_id: str, position: int, picture: StoredPicture) -> PictureRow:
    """Return the row of a stored picture."""
    return PictureRow(
        concept_id=concept_id,
        position=position,
        blob_key=picture.blob_key,
        mask_key=picture.mask_key,
        width=picture.width,
        height=picture.height,
        has_alpha=picture.has_alpha,
        sha256=picture.sha256,
        size_bytes=picture.size_bytes,
        crop=None if picture.crop is None else list(picture.crop),
    )

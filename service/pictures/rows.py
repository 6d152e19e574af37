"""Store the pictures of a concept as blobs and rows."""

import hashlib
from dataclasses import dataclass

from service.blobs import keys
from service.database.tables import PictureRow
from service.pictures.uploads import UploadedPicture
from service.wiring import Service


@dataclass(frozen=True, kw_only=True)
class StoredPicture:
    """A picture that is stored as a blob, with the blob of its mask if it has one."""

    width: int
    height: int
    has_alpha: bool
    sha256: str
    mask_sha256: str | None
    size_bytes: int


def put(
    service: Service, concept_id: str, position: int, picture: UploadedPicture
) -> StoredPicture:
    """Store a picture and its mask as blobs."""
    mask = picture.mask_png
    service.blobs.put(keys.picture_key(concept_id, position), picture.png)
    if mask is not None:
        service.blobs.put(keys.mask_key(concept_id, position), mask)
    return StoredPicture(
        width=picture.width,
        height=picture.height,
        has_alpha=picture.has_alpha,
        sha256=picture.sha256,
        mask_sha256=None if mask is None else hashlib.sha256(mask).hexdigest(),
        size_bytes=len(picture.png) + len(mask or b""),
    )


def new_row(concept_id: str, position: int, picture: StoredPicture) -> PictureRow:
    """Return the row of a stored picture."""
    has_mask = picture.mask_sha256 is not None
    return PictureRow(
        concept_id=concept_id,
        position=position,
        blob_key=keys.picture_key(concept_id, position),
        mask_key=keys.mask_key(concept_id, position) if has_mask else None,
        width=picture.width,
        height=picture.height,
        has_alpha=picture.has_alpha,
        sha256=picture.sha256,
        size_bytes=picture.size_bytes,
    )

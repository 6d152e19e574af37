"""The pictures that a concept was trained on, as its owner sees them until it is deleted."""

import hashlib

from sqlalchemy import select

from service.blobs.store import BlobNotFound, StoredFile
from service.concepts import rows
from service.concepts.views import ConceptPicturesView, ConceptPictureView
from service.database.tables import ConceptRow, PictureRow
from service.errors import NotFound
from service.wiring import Service


def list_all(service: Service, owner_id: str, *, ref: str) -> ConceptPicturesView:
    """Return a concept's pictures in the order of their upload; an imported concept has none."""
    with service.database.read() as session:
        concept = rows.find(session, owner_id, ref=ref)
        pictures = session.scalars(
            select(PictureRow)
            .where(PictureRow.concept_id == concept.id)
            .order_by(PictureRow.position)
        ).all()
    return ConceptPicturesView(
        concept_id=concept.id,
        items=tuple(
            ConceptPictureView(
                url=(url := f"/concepts/{concept.id}/pictures/{picture.position}"),
                mask_url=None if picture.mask_key is None else f"{url}/mask",
                width=picture.width,
                height=picture.height,
            )
            for picture in pictures
        ),
    )


def read(
    service: Service, owner_id: str | None, *, concept_id: str, number: int, mask: bool = False
) -> StoredFile:
    """Return the PNG of a picture or its mask; for the owner None (a signed link), of any owner."""
    with service.database.read() as session:
        if owner_id is None:
            concept = session.get(ConceptRow, concept_id)
        else:
            concept = rows.find(session, owner_id, ref=concept_id)
        row = session.get(PictureRow, (concept.id, number)) if concept is not None else None
    key = None if row is None else row.mask_key if mask else row.blob_key
    if key is None:
        raise _not_found(mask=mask)
    try:
        data = service.blobs.get(key)
    except BlobNotFound:
        raise _not_found(mask=mask) from None
    return StoredFile(data=data, sha256=hashlib.sha256(data).hexdigest())


def _not_found(*, mask: bool) -> NotFound:
    if mask:
        return NotFound("mask-not-found", "This concept has no mask of this picture.")
    return NotFound("picture-not-found", "This concept has no such picture.")

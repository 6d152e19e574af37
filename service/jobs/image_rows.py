"""Convert generated images and attention maps between workers' results, rows and views.

Attention maps and thumbnails have no rows of their own: they are read and removed with their image.
The image's row lists its maps in the prompt's order.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from service.database.tables import ImageRow, JobRow
from service.errors import NotFound
from service.ids import is_plausible, new_id
from service.jobs.lease_types import NewImage
from service.jobs.views import AttentionMapView, ImageView, PresenceView

BLOBS = (ImageRow.blob_key, ImageRow.thumbnail_key, ImageRow.attention_maps)
"""The columns that `blob_keys_of` reads."""


def new_row(job: JobRow, image: NewImage) -> ImageRow:
    """Return the row of an image of a job that has just succeeded."""
    maps, presence = image.attention_maps, image.presence
    return ImageRow(
        id=new_id("image"),
        job_id=job.id,
        owner_id=job.owner_id,
        position=image.index,
        seed=image.seed,
        width=image.width,
        height=image.height,
        blob_key=image.blob_key,
        sha256=image.sha256,
        thumbnail_key=image.thumbnail_key,
        size_bytes=image.size_bytes,
        cell=None if image.cell is None else list(image.cell),
        attention_maps=None if maps is None else [asdict(shown) for shown in maps],
        presence=None if presence is None else [seen.to_json() for seen in presence],
        searched_prompt=None if image.prompt is None else image.prompt.casefold(),
        concept_refs=None if image.concept_refs is None else list(image.concept_refs),
        created_at=job.finished_at,
    )


def views_of(session: Session, job_ids: Sequence[str]) -> dict[str, list[ImageView]]:
    """Return the images of these jobs, by job."""
    if not job_ids:
        return {}
    rows = session.scalars(
        select(ImageRow)
        .where(ImageRow.job_id.in_(job_ids))
        .order_by(ImageRow.job_id, ImageRow.position)
    )
    images: dict[str, list[ImageView]] = {}
    for row in rows:
        images.setdefault(row.job_id, []).append(ImageView(**fields_of(row)))
    return images


def find(session: Session, owner_id: str | None, *, image_id: str) -> ImageRow:
    """Return an image of this owner, or for None of any owner; raise NotFound."""
    image = session.get(ImageRow, image_id) if is_plausible(image_id) else None
    if image is None or owner_id not in (image.owner_id, None):
        raise not_found()
    return image


def not_found() -> NotFound:
    """Return the error for an image that does not exist, or is another owner's."""
    return NotFound("image-not-found", "There is no such image.")


def fields_of(row: ImageRow) -> dict[str, Any]:
    """Return the fields of an image's view."""
    return {
        "id": row.id,
        "url": f"/images/{row.id}",
        "thumbnail_url": f"/images/{row.id}/thumbnail",
        "seed": row.seed,
        "width": row.width,
        "height": row.height,
        "cell": None if row.cell is None else (row.cell[0], row.cell[1]),
        "attention_maps": _map_views(row),
        "presence": _presence_views(row),
    }


def blob_keys_of(images: Iterable[ImageRow | Row[Any]]) -> Iterator[str]:
    """Go through the keys of images, of their thumbnails and of their maps."""
    for image in images:
        yield image.blob_key
        if image.thumbnail_key is not None:
            yield image.thumbnail_key
        yield from (stored["blob_key"] for stored in image.attention_maps or ())


def _map_views(row: ImageRow) -> tuple[AttentionMapView, ...] | None:
    if row.attention_maps is None:
        return None
    return tuple(
        AttentionMapView(url=f"/images/{row.id}/attention/{number}", **stored)
        for number, stored in enumerate(row.attention_maps)
    )


def _presence_views(row: ImageRow) -> tuple[PresenceView, ...] | None:
    if row.presence is None:
        return None
    return tuple(PresenceView(**stored) for stored in row.presence)

"""Convert generated images and attention maps between workers' results, rows and views.

An attention map has no row of its own: a map is read and removed with its image. The image's row
lists its maps in the prompt's order.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from service.database.tables import ImageRow, JobRow
from service.ids import new_id
from service.jobs.lease_types import NewImage
from service.jobs.views import AttentionMapView, ImageView, PresenceView


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
        size_bytes=image.size_bytes,
        attention_maps=None if maps is None else [asdict(shown) for shown in maps],
        presence=None if presence is None else [seen.to_json() for seen in presence],
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
        images.setdefault(row.job_id, []).append(
            ImageView(
                id=row.id,
                url=f"/images/{row.id}",
                seed=row.seed,
                width=row.width,
                height=row.height,
                attention_maps=_map_views(row),
                presence=_presence_views(row),
            )
        )
    return images


def blob_keys_of(images: Iterable[ImageRow | Row[Any]]) -> Iterator[str]:
    """Go through the keys of images and of their maps."""
    for image in images:
        yield image.blob_key
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

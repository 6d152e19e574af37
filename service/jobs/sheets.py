"""The contact sheet of a sweep, drawn from its images whenever it is asked for.

No sheet is stored, so a deleted image leaves no trace on a sheet: its cell is empty.
"""

import hashlib
import io
from collections.abc import Mapping

from PIL import Image
from sqlalchemy import select

from perfusion_core.imaging import contact_sheet
from perfusion_core.imaging.contact_sheet import Axis
from service.blobs.store import BlobNotFound, StoredFile
from service.database.tables import ImageRow
from service.errors import Conflict, NotFound
from service.jobs import use_cases as jobs
from service.jobs.payloads import GeneratePayload, NewerPayload, SweepPayload
from service.statuses import TERMINAL, JobKind, JobStatus
from service.wiring import Service


def read(service: Service, owner_id: str, *, job_id: str) -> StoredFile:
    """Return the sheet of a finished sweep of this owner as a PNG.

    Raise NotFound if the job is no sweep or ended without images, and Conflict before its end.
    """
    with service.database.read() as session:
        job = jobs.find(session, owner_id, job_id=job_id)
        sweep = _sweep_of(job.payload) if job.kind is JobKind.GENERATE else None
        if sweep is None:
            raise NotFound("sheet-not-found", "This job is no sweep, so it has no contact sheet.")
        if job.status not in TERMINAL:
            raise Conflict(
                "sweep-not-finished",
                f"This sweep is {job.status.value}. Ask for its contact sheet when it has ended.",
            )
        if job.status is not JobStatus.SUCCEEDED:
            raise NotFound("sheet-not-found", "This sweep ended without images.")
        rows = session.scalars(select(ImageRow).where(ImageRow.job_id == job_id)).all()
    images = {(row.cell[0], row.cell[1]): row for row in rows if row.cell is not None}
    data = _draw(service, sweep, images, title=_title(job.payload, sweep))
    return StoredFile(data=data, sha256=hashlib.sha256(data).hexdigest())


def _sweep_of(stored: Mapping[str, object]) -> SweepPayload | None:
    try:
        return GeneratePayload.read(stored).sweep
    except NewerPayload:
        return None


def _draw(
    service: Service,
    sweep: SweepPayload,
    images: Mapping[tuple[int, int], ImageRow],
    *,
    title: str,
) -> bytes:
    def image_at(column: int, row: int, size: tuple[int, int]) -> Image.Image | None:
        found = images.get((column, row))
        return None if found is None else _open(service, found, size=size)

    size = next(((image.width, image.height) for image in images.values()), (1, 1))
    axes = [Axis.of(axis.field, axis.values) for axis in sweep.axes]
    file = io.BytesIO()
    contact_sheet.draw(axes, image_at, image_size=size, title=title).save(file, "PNG")
    return file.getvalue()


def _open(service: Service, row: ImageRow, *, size: tuple[int, int]) -> Image.Image | None:
    """Return an image that fits into `size`, from its thumbnail if that is large enough."""
    large_enough = max(size) <= contact_sheet.MOST_PIXELS
    for key in (row.thumbnail_key if large_enough else None, row.blob_key):
        try:
            if key is not None:
                image = Image.open(io.BytesIO(service.blobs.get(key)))
                return contact_sheet.fit(image, size=size)
        except BlobNotFound:
            continue
    return None


def _title(stored: Mapping[str, object], sweep: SweepPayload) -> str:
    """Return what all cells have in common: prompt and seed."""
    payload = GeneratePayload.read(stored)
    varied = {axis.field for axis in sweep.axes}
    said = [] if "prompt" in varied else [payload.prompt]
    said += [] if "seed" in varied else [f"seed {payload.config['seed']}"]
    return ", ".join(said)

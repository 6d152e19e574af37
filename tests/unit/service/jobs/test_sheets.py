"""The contact sheet of a sweep: drawn on demand, and without images that are deleted."""

import io
from typing import Any

import pytest
from PIL import Image, ImageChops
from sqlalchemy import delete

from service.blobs import keys
from service.database.tables import ImageRow
from service.errors import Conflict, NotFound
from service.execution import leases
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.jobs import sheets
from service.jobs import use_cases as jobs
from service.wiring import Service
from tests.unit.service.staging import OWNER, STRANGER, claim, generated, submit

AXES = [{"field": "seed", "values": [1, 2, 3]}, {"field": "guidance_scale", "values": [2, 4]}]


def accept(service: Service, **fields: Any) -> str:
    body = GenerateRequest.read({"prompt": "a boat", **fields})
    return str(generations.request(service, OWNER, body=body).body["job"]["id"])


def swept(service: Service) -> str:
    claimed = claim(service, accept(service, sweep={"axes": AXES}))
    assert leases.finish_generation(service, claimed, images=generated(service, claimed))
    return claimed.id


def drawn(service: Service, job_id: str) -> Image.Image:
    file = sheets.read(service, OWNER, job_id=job_id)
    return Image.open(io.BytesIO(file.data)).convert("RGB")


def test_a_deleted_image_leaves_an_empty_cell_and_no_trace(service: Service) -> None:
    job_id = swept(service)
    whole = drawn(service, job_id)
    image = next(
        image for image in jobs.get(service, OWNER, job_id=job_id).images if image.cell == (1, 1)
    )
    with service.database.write() as session:
        session.execute(delete(ImageRow).where(ImageRow.id == image.id))
    without = drawn(service, job_id)
    box = _difference(whole, without)
    # The second of three columns, and the lower of two rows.
    assert whole.width / 3 < box[0] < box[2] < whole.width * 0.72
    assert whole.height / 2 < box[1] < box[3] < whole.height
    assert len(without.crop(box).getcolors() or ()) == 1
    first = sheets.read(service, OWNER, job_id=job_id)
    assert first.sha256 == sheets.read(service, OWNER, job_id=job_id).sha256


def test_a_file_that_is_gone_leaves_an_empty_cell(service: Service) -> None:
    job_id = swept(service)
    before = drawn(service, job_id)
    for key in (keys.image_key(job_id, 1, index=0), keys.thumbnail_key(job_id, 1, index=0)):
        service.blobs.delete(key)
    assert drawn(service, job_id).size == before.size
    assert _difference(before, drawn(service, job_id))[1] < before.height / 2


def test_only_a_finished_sweep_has_a_sheet(service: Service) -> None:
    waiting = accept(service, sweep={"axes": AXES})
    with pytest.raises(Conflict) as unfinished:
        sheets.read(service, OWNER, job_id=waiting)
    assert unfinished.value.slug == "sweep-not-finished"
    jobs.cancel(service, OWNER, job_id=waiting)
    finished = swept(service)
    for owner, job_id in (
        (OWNER, waiting),
        (OWNER, accept(service)),
        (OWNER, submit(service, "rex")),
        (STRANGER, finished),
        (OWNER, "job_0"),
    ):
        with pytest.raises(NotFound):
            sheets.read(service, owner, job_id=job_id)


def _difference(first: Image.Image, second: Image.Image) -> tuple[int, int, int, int]:
    box = ImageChops.difference(first, second).getbbox()
    assert box is not None
    return box

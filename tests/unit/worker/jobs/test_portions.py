"""A job starts and keeps only so many images at once, and they are the same in any portion."""

from typing import Any

import pytest
from PIL import Image

from perfusion_core.config import MAX_SEED, GenerateConfig
from perfusion_core.editing.edit import Edit
from perfusion_core.sampling.sampler import ImageRequest
from service.jobs import use_cases as jobs
from service.statuses import JobStatus, Queue
from service.wiring import Service
from tests.unit.worker.jobs.test_edits import accept, photo, white_box
from tests.unit.worker.staging import OWNER, accept_generation, look_at
from worker.context import WorkerContext
from worker.engine.engine import Engine
from worker.engine.requests import Request
from worker.jobs import portions
from worker.jobs.cells import Cell
from worker.runner import Runner

PHOTO = (4000, 3000)  # 36 MB, of which 256 MiB hold seven


def cell(*, seed: int = 0, images: int = 1, edit: Edit | None = None) -> Cell:
    config = GenerateConfig(seed=seed, num_images=images)
    return Cell(request=ImageRequest(prompt="a boat", config=config, edit=edit), concepts=())


def in_portions(*cells: Cell) -> list[list[tuple[int | None, int]]]:
    """Return the seed and the number of images of each part of each portion."""
    return [
        [(part.request.config.seed, part.request.config.num_images) for part in portion]
        for portion in portions.portions_of(cells)
    ]


def test_a_sweep_starts_as_many_cells_at_once_as_a_request_may_have_images() -> None:
    swept = in_portions(*(cell(seed=k) for k in range(64)))
    assert [[seed for seed, _ in portion] for portion in swept] == [
        [*range(first, first + 16)] for first in (0, 16, 32, 48)
    ]
    assert in_portions(cell(seed=3, images=16)) == [[(3, 16)]]


def test_the_images_of_a_large_photo_are_cut_into_portions_with_the_seeds_that_they_had() -> None:
    masked = Edit(picture=Image.new("RGB", PHOTO), mask=Image.new("L", PHOTO, 255))
    first = MAX_SEED - 1
    assert in_portions(cell(seed=first, images=16, edit=masked)) == [
        [(first, 7)],
        [(5, 7)],
        [(12, 2)],
    ]
    whole = Edit(picture=Image.new("RGB", PHOTO), mask=None)  # its images have the usual size
    assert in_portions(cell(seed=1, images=16, edit=whole)) == [[(1, 16)]]


def files_of(service: Service, job_id: str) -> list[bytes]:
    job = look_at(service, job_id)
    assert job.status is JobStatus.SUCCEEDED, job.error
    read = [jobs.read_image(service, OWNER, image_id=image.id) for image in job.images]
    return [image.data for image in read]


def test_a_job_in_portions_has_the_same_files_and_starts_no_more_than_a_portion(
    service: Service, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    begin = Engine._begin

    def note(engine: Engine, request: Request) -> None:
        begin(engine, request)
        started.append(len(request.slots))

    monkeypatch.setattr(Engine, "_begin", note)
    axes = [{"field": "seed", "values": [4, 5, 6]}, {"field": "num_inference_steps", "values": [2]}]

    def run_both() -> list[bytes]:
        fields: dict[str, Any] = {"sweep": {"axes": axes}}
        ids = [
            accept_generation(service, **fields),
            accept(service, photo(), mask_file=white_box(), num_images=3),
        ]
        for _ in ids:
            Runner(context).run(Queue.GENERATE)
        return [file for job_id in ids for file in files_of(service, job_id)]

    at_once = run_both()
    assert started == [3, 3]
    monkeypatch.setattr(portions, "MOST_IMAGES", 2)
    started.clear()
    assert run_both() == at_once
    assert started == [2, 1, 2, 1]

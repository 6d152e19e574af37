"""The edit of a job: which picture it starts from, and what is painted anew."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sqlalchemy import delete

from perfusion_core.callbacks import run_at_once
from perfusion_core.config import EditConfig
from perfusion_core.editing.edit import Edit
from perfusion_core.pictures.masks import FindObject
from service.blobs import keys
from service.database.tables import BaseModelRow, ImageRow
from service.execution import leases
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.jobs import use_cases as jobs
from service.jobs.payloads import GeneratePayload
from service.jobs.views import JobView
from service.pictures import edit_uploads
from service.statuses import JobStatus, Queue
from service.wiring import Service
from tests.unit.service.staging import encoded
from tests.unit.service.staging import picture as picture_of_noise
from tests.unit.worker.staging import OWNER, claim, look_at
from worker.context import WorkerContext
from worker.jobs import edits
from worker.models import segmenter
from worker.runner import Runner

SIZE = (200, 140)
BOX = (60, 40, 80, 60)  # x, y, width, height


def photo(*, size: tuple[int, int] = SIZE) -> Image.Image:
    return picture_of_noise(size=size)


def white_box(*, size: tuple[int, int] = SIZE, grey: int = 255) -> Image.Image:
    x, y, width, height = BOX
    mask = Image.new("L", size, 127)  # just not white
    ImageDraw.Draw(mask).rectangle((x, y, x + width - 1, y + height - 1), fill=grey)
    return mask


def accept(
    service: Service,
    picture: Image.Image | None = None,
    *,
    mask_file: Image.Image | None = None,
    **fields: Any,
) -> str:
    """Accept an edit and return its job's id."""
    fields = {"prompt": "a photo of a dog", "num_inference_steps": 2, "seed": 5, **fields}
    body = GenerateRequest.read(fields)
    with edit_uploads.reading(
        service,
        picture=None if picture is None else encoded(picture),
        mask=None if mask_file is None else encoded(mask_file),
    ) as upload:
        answer = generations.request(service, OWNER, body=body, upload=upload)
    return str(answer.body["job"]["id"])


def edit_of(service: Service, context: WorkerContext, job_id: str) -> Edit:
    claimed = claim(service, job_id)
    payload = GeneratePayload.read(claimed.payload)
    edit = edits.edit_of(context, claimed, payload, run_on_device=run_at_once)
    assert edit is not None
    return edit


def ended(service: Service, context: WorkerContext, job_id: str) -> JobView:
    Runner(context).run(Queue.GENERATE)
    return look_at(service, job_id)


def forget_base_model(service: Service) -> None:
    """Make the service accept a subject, as if no worker had said yet what it serves."""
    with service.database.write() as session:
        session.execute(delete(BaseModelRow))


@pytest.fixture
def found(
    service: Service, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[tuple[str, int]]]:
    """Let a segmenter find a robot in the middle; the list holds what it was asked for."""
    asked: list[tuple[str, int]] = []

    def find(picture: Image.Image, subject: str) -> Image.Image:
        asked.append((subject, max(picture.size)))
        soft = Image.new("L", picture.size, 4)
        if subject == "robot":
            width, height = picture.size
            soft.paste(200, (width // 4, height // 4, width // 2, height // 2))
        return soft

    def stand_in(*_: Any, **__: Any) -> FindObject:
        return find

    monkeypatch.setattr(segmenter, "find", stand_in)
    forget_base_model(service)
    yield asked


def test_an_edit_starts_from_the_uploaded_pixels_and_paints_the_white_anew(
    service: Service, context: WorkerContext
) -> None:
    picture, mask = photo(), white_box(grey=128)
    options = {"denoising_strength": 0.6, "mask_feather": 0, "mask_margin": 5}
    edit = edit_of(service, context, accept(service, picture, mask_file=mask, **options))
    assert np.array_equal(np.asarray(edit.picture), np.asarray(picture))
    assert edit.mask is not None
    assert edit.mask.tobytes() == mask.tobytes()
    assert edit.config == EditConfig(denoising_strength=0.6, mask_feather=0, mask_margin=5)
    plain = edit_of(service, context, accept(service, picture))
    assert (plain.mask, plain.config) == (None, EditConfig())


def test_boxes_become_a_mask_of_their_union(service: Service, context: WorkerContext) -> None:
    boxes = [list(BOX), [0, 0, 10, 10]]
    edit = edit_of(service, context, accept(service, photo(), mask={"boxes": boxes}))
    assert edit.mask is not None
    white = np.asarray(edit.mask) > 0
    assert white.sum() == BOX[2] * BOX[3] + 100
    assert white[BOX[1], BOX[0]] and white[9, 9] and not white[10, 10]


def test_a_subject_is_what_the_segmenter_finds_in_a_small_copy(
    service: Service, context: WorkerContext, found: list[tuple[str, int]]
) -> None:
    job_id = accept(service, photo(size=(2400, 1600)), mask={"subject": "robot"})
    edit = edit_of(service, context, job_id)
    assert found == [("robot", 1024)]
    assert edit.mask is not None and edit.mask.size == (2400, 1600)
    white = np.asarray(edit.mask) > 127
    assert white[420:780, 620:1180].all()
    assert not white[:300].any() and not white[900:].any()


def test_a_subject_that_is_not_there_fails_the_job_in_words(
    service: Service, context: WorkerContext, found: list[tuple[str, int]]
) -> None:
    job = ended(service, context, accept(service, photo(), mask={"subject": "cup"}))
    assert job.status is JobStatus.FAILED and job.error is not None
    assert (job.error.type, "No cup was found" in job.error.detail) == ("/problems/edit", True)
    assert found == [("cup", 200)]


def test_without_a_segmenter_a_subject_fails_the_job_in_words(
    service: Service, context: WorkerContext
) -> None:
    forget_base_model(service)
    job = ended(service, context, accept(service, photo(), mask={"subject": "cup"}))
    assert job.error is not None
    assert job.error.type == "/problems/no-segmenter"


def test_a_file_that_is_gone_fails_the_job_in_words(
    service: Service, context: WorkerContext
) -> None:
    for key in (keys.edit_picture_key, keys.edit_mask_key):
        job_id = accept(service, photo(), mask_file=white_box())
        service.blobs.delete(key(job_id))
        job = ended(service, context, job_id)
        assert job.error is not None
        assert job.error.type == "/problems/file-gone"
        assert "Send it again" in job.error.detail


def test_a_second_attempt_at_an_edit_makes_the_same_image(
    service: Service, context: WorkerContext
) -> None:
    options: dict[str, Any] = {"mask_file": white_box(), "denoising_strength": 0.8}
    undisturbed = ended(service, context, accept(service, photo(), **options))
    lost = claim(service, accept(service, photo(), **options))
    service.blobs.put(f"{keys.attempt_prefix(lost.id, lost.attempt)}0.png", b"half an image")
    assert leases.release(service, lost, delay_seconds=0, spend_attempt=True)
    again = ended(service, context, lost.id)
    assert (undisturbed.attempt, again.attempt) == (1, 2)
    first, second = (
        [jobs.read_image(service, OWNER, image_id=image.id).data for image in job.images]
        for job in (undisturbed, again)
    )
    assert len(first) == 1
    assert first == second


def test_an_image_that_was_deleted_meanwhile_fails_the_job_in_words(
    service: Service, context: WorkerContext
) -> None:
    start = ended(service, context, accept(service)).images[0]
    job_id = accept(service, image={"image_id": start.id}, mask={"boxes": [[0, 0, 8, 8]]})
    with service.database.write() as session:
        session.execute(delete(ImageRow).where(ImageRow.id == start.id))
    job = ended(service, context, job_id)
    assert job.error is not None
    assert (job.error.type, "deleted" in job.error.detail) == ("/problems/file-gone", True)

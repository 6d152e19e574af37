"""An inspection job: findings, crops and masks of the pictures that were sent."""

import io
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFilter

from perfusion_core.pictures.masks import FindObject
from service.blobs import keys
from service.jobs import use_cases as jobs
from service.pictures import inspections
from service.pictures.uploads import read_pictures
from service.statuses import JobKind, JobStatus, Queue
from service.wiring import Service
from tests.unit.perfusion_core.conftest import drawing
from tests.unit.service.staging import encoded
from tests.unit.worker.staging import OWNER, blob_keys, look_at
from worker.context import WorkerContext
from worker.models import segmenter
from worker.runner import Runner

BOX = (120, 40, 180, 100)


def photo(*, size: tuple[int, int] = (240, 160)) -> Image.Image:
    """A sharp drawing of an object at BOX."""
    picture = Image.effect_noise(size, 40).convert("RGB")
    picture.paste(drawing(60), BOX[:2])
    return picture


def mask(*, size: tuple[int, int] = (240, 160)) -> Image.Image:
    white = Image.new("L", size)
    ImageDraw.Draw(white).rectangle(BOX, fill=255)
    return white


def accept(
    service: Service,
    pictures: Sequence[Image.Image],
    *,
    masks: Sequence[Image.Image] = (),
    superclass: str | None = "robot",
) -> str:
    uploaded = read_pictures(
        service,
        images=[encoded(picture) for picture in pictures],
        masks=[encoded(mask) for mask in masks],
    )
    answer = inspections.request(service, OWNER, pictures=uploaded, superclass=superclass)
    return str(answer.body["job"]["id"])


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Let a segmenter find the object at BOX; the list holds what it was asked for."""
    asked: list[str] = []

    def find(picture: Image.Image, superclass: str) -> Image.Image:
        asked.append(superclass)
        return mask(size=picture.size)

    def stand_in(*_: Any, **__: Any) -> FindObject:
        return find

    monkeypatch.setattr(segmenter, "find", stand_in)
    yield asked


def test_an_inspection_names_what_is_wrong_and_shows_crop_and_mask(
    service: Service, context: WorkerContext, found: list[str]
) -> None:
    good = photo()
    job_id = accept(service, [good, good.filter(ImageFilter.GaussianBlur(4))])
    Runner(context).run(Queue.GENERATE)
    job = look_at(service, job_id)
    assert (job.kind, job.status) == (JobKind.INSPECT, JobStatus.SUCCEEDED)
    assert (job.progress.step, job.progress.total_steps) == (2, 2)
    assert found == ["robot", "robot"]
    assert job.pictures is not None
    first, second = job.pictures
    assert "blurred" not in {finding.code for finding in first.findings}
    assert "blurred" in {finding.code for finding in second.findings}
    assert first.mask_source == "segmenter"
    x, y, width, height = first.crop
    assert x <= BOX[0] and y <= BOX[1] and x + width >= BOX[2] and y + height >= BOX[3]
    assert width < 160
    stored = jobs.read_mask(service, OWNER, job_id=job_id, number=0)
    assert Image.open(io.BytesIO(stored.data)).tobytes() == mask().tobytes()
    assert len(blob_keys(service, f"jobs/{job_id}/")) == 2


def test_a_crop_is_one_of_the_picture_that_was_uploaded(
    service: Service, context: WorkerContext
) -> None:
    large = photo().resize((2400, 1600), Image.Resampling.NEAREST)
    own = mask().resize(large.size, Image.Resampling.NEAREST)
    small_id = accept(service, [photo()], masks=[mask()])
    large_id = accept(service, [large], masks=[own])
    Runner(context).run(Queue.GENERATE)
    small, shrunk = (look_at(service, job_id).pictures for job_id in (small_id, large_id))
    assert small is not None and shrunk is not None
    assert (small[0].mask_source, shrunk[0].mask_source) == ("upload", "upload")
    # The picture is stored at 2048 pixels, where the object's edges lie between two pixels.
    for of_small, of_large in zip(small[0].crop, shrunk[0].crop, strict=True):
        assert of_large == pytest.approx(10 * of_small, abs=15)


def test_without_a_superclass_no_segmenter_is_asked(
    service: Service, context: WorkerContext, found: list[str]
) -> None:
    job_id = accept(service, [photo()], superclass=None)
    Runner(context).run(Queue.GENERATE)
    [picture] = look_at(service, job_id).pictures or ()
    assert (picture.mask_source, picture.mask_url, found) == ("uniform", None, [])
    assert picture.crop == (40, 0, 160, 160)


def test_a_superclass_that_the_base_model_does_not_know_is_warned_of(
    service: Service, context: WorkerContext, found: list[str]
) -> None:
    unknown, known = (accept(service, [photo()], superclass=word) for word in ("axolotl", "robot"))
    Runner(context).run(Queue.GENERATE)
    (warning,) = look_at(service, unknown).warnings
    assert warning.type == "/problems/unfamiliar-superclass"
    assert warning.detail.startswith("'axolotl' is made of 6 pieces in this base model's")
    assert look_at(service, unknown).status is JobStatus.SUCCEEDED
    assert look_at(service, known).warnings == ()


def test_a_picture_that_is_gone_fails_the_job_in_words(
    service: Service, context: WorkerContext
) -> None:
    job_id = accept(service, [photo()])
    service.blobs.delete(keys.inspected_picture_key(job_id, 0))
    Runner(context).run(Queue.GENERATE)
    error = look_at(service, job_id).error
    assert error is not None
    assert (error.type, "Send the pictures again" in error.detail) == ("/problems/file-gone", True)


def test_an_inspection_is_cancelled_between_two_pictures(
    service: Service, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = accept(service, [photo()] * 3)
    asked: list[str] = []

    def find(picture: Image.Image, superclass: str) -> Image.Image:
        asked.append(superclass)
        if len(asked) == 1:
            jobs.cancel(service, OWNER, job_id=job_id)
            time.sleep(0.5)  # five heartbeats
        return mask()

    def stand_in(*_: Any, **__: Any) -> FindObject:
        return find

    monkeypatch.setattr(segmenter, "find", stand_in)
    Runner(context).run(Queue.GENERATE)
    assert look_at(service, job_id).status is JobStatus.CANCELLED
    assert len(asked) == 1
    assert blob_keys(service, f"jobs/{job_id}/") == []

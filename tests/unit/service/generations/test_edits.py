"""Edits: their files are stored before the job and go when it ends; wrong ones leave nothing."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from PIL import Image

from service import deployment, quota
from service.errors import Invalid, NotFound, ServiceError, StorageFull, problem
from service.execution import leases
from service.garbage import collection
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.idempotency import Answer, Idempotency
from service.jobs import use_cases as jobs
from service.jobs.lease_types import ClaimedJob
from service.jobs.payloads import GeneratePayload
from service.pictures.edit_uploads import EditUpload, UploadedFile
from service.wiring import Service
from tests.unit.service.staging import (
    OWNER,
    STRANGER,
    Clock,
    LosingDatabase,
    blob_keys,
    claim,
    encoded,
    generated,
    picture,
    register_base_model,
)

SIZE = (48, 40)
BOXES = {"boxes": [[0, 0, 20, 20], [30, 10, 18, 30]]}


def file(image: Image.Image) -> UploadedFile:
    """Return a file as the decoder does, without its process."""
    png = encoded(image)
    sha256 = hashlib.sha256(png).hexdigest()
    return UploadedFile(png=png, width=image.width, height=image.height, sha256=sha256)


def upload(*, seed: int = 0, mask: tuple[int, int] | None = None) -> EditUpload:
    white = None if mask is None else file(Image.new("L", mask, "white"))
    return EditUpload(picture=file(picture(size=SIZE, seed=seed)), mask=white)


def edit(
    service: Service,
    files: EditUpload | None = None,
    *,
    key: str | None = None,
    owner_id: str = OWNER,
    **fields: Any,
) -> Answer:
    body = GenerateRequest.read({"prompt": "a boat", **fields})
    return generations.request(
        service,
        owner_id,
        body=body,
        upload=files,
        idempotency=None if key is None else Idempotency(key),
    )


def job_of(answer: Answer) -> str:
    return str(answer.body["job"]["id"])


def image_of(service: Service, owner_id: str = OWNER) -> str:
    """Generate an image of 48 x 40 pixels; return its id."""
    claimed = claim(service, job_of(edit(service, owner_id=owner_id)))
    assert leases.finish_generation(service, claimed, images=generated(service, claimed))
    return jobs.get(service, owner_id, job_id=claimed.id).images[0].id


def test_the_files_of_an_edit_are_there_before_its_answer(service: Service) -> None:
    files = upload(mask=SIZE)
    job_id = job_of(edit(service, files, denoising_strength=0.6, mask_feather=0))
    payload = GeneratePayload.read(claim(service, job_id).payload)
    assert payload.edit is not None and files.picture is not None and files.mask is not None
    assert payload.edit.options == {"denoising_strength": 0.6, "mask_feather": 0}
    keys = (payload.edit.picture_key, payload.edit.mask_key)
    assert [service.blobs.get(key or "") for key in keys] == [files.picture.png, files.mask.png]
    assert blob_keys(service) == set(keys)


def test_an_edit_goes_on_from_a_generated_image_without_a_file_of_its_own(
    service: Service,
) -> None:
    image_id = image_of(service)
    before = blob_keys(service)
    job_id = job_of(edit(service, image={"image_id": image_id}, mask=BOXES))
    payload = GeneratePayload.read(claim(service, job_id).payload)
    assert payload.edit is not None
    assert (payload.edit.image_id, payload.edit.picture_key) == (image_id, None)
    assert payload.edit.boxes == ((0, 0, 20, 20), (30, 10, 18, 30))
    assert blob_keys(service) == before


@pytest.mark.parametrize("end", ["succeeds", "succeeds at its second attempt", "fails", "cancel"])
def test_the_files_go_when_the_job_ends_and_no_sooner(
    service: Service, clock: Clock, end: str
) -> None:
    clock.now = datetime.now(UTC) + timedelta(minutes=5)  # blobs carry the machine's time
    deployment.check(service)
    job_id = job_of(edit(service, upload(mask=SIZE)))
    stored = blob_keys(service)
    assert len(stored) == 2
    claimed = claim(service, job_id)
    if "second" in end:
        assert leases.release(service, claimed, delay_seconds=0, spend_attempt=True)
        claimed = claim(service, job_id)
    clock.tick(7200)
    assert collection.collect(service) == 0
    assert blob_keys(service) == stored
    if end == "fails":
        assert leases.fail(service, claimed, problem=problem("internal", "It failed."))
    elif end == "cancel":
        jobs.cancel(service, OWNER, job_id=job_id)
        assert leases.cancelled(service, claimed)
    else:
        assert leases.finish_generation(service, claimed, images=generated(service, claimed))
    assert blob_keys(service) == (image_and_thumbnail(claimed) if "succeeds" in end else set())


def test_files_that_could_not_be_deleted_at_the_end_are_collected(
    service: Service, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.now = datetime.now(UTC) + timedelta(minutes=5)
    deployment.check(service)
    claimed = claim(service, job_of(edit(service, upload())))
    monkeypatch.setattr("service.jobs.transitions.remove_blobs", lambda *_, **__: None)
    assert leases.finish_generation(service, claimed, images=generated(service, claimed))
    clock.tick(7200)
    assert collection.collect(service) == 1
    assert blob_keys(service) == image_and_thumbnail(claimed)


def image_and_thumbnail(claimed: ClaimedJob) -> set[str]:
    return {f"jobs/{claimed.id}/{claimed.attempt}/0.{form}" for form in ("png", "webp")}


WRONG: list[tuple[dict[str, Any], EditUpload | None, set[str]]] = [
    ({"image": {"image_id": "image_1"}}, upload(), {"/image"}),
    ({"mask": BOXES}, None, {"/mask"}),
    ({"denoising_strength": 0.5, "mask_margin": 3}, None, {"/denoising_strength", "/mask_margin"}),
    ({}, EditUpload(mask=file(Image.new("L", SIZE))), {"/mask_image"}),
    ({"mask": BOXES}, upload(mask=SIZE), {"/mask"}),
    ({}, upload(mask=(40, 48)), {"/mask_image"}),
    ({"mask": {}}, upload(), {"/mask"}),
    ({"mask": {**BOXES, "subject": "cup"}}, upload(), {"/mask"}),
    ({"mask": {"subject": "  "}}, upload(), {"/mask/subject"}),
    ({"mask": {"subject": "x" * 101}}, upload(), {"/mask/subject"}),
    ({"mask": {"subject": "nul \0"}}, upload(), {"/mask/subject"}),
    ({"mask": {"subject": "cup"}}, upload(), {"/mask/subject"}),
    ({"mask": BOXES, "width": 64, "height": 64}, upload(), {"/width", "/height"}),
    ({"width": 64}, upload(mask=SIZE), {"/width"}),
    ({"mask_feather": 4, "mask_margin": 4}, upload(), {"/mask_feather", "/mask_margin"}),
    ({"keep_background": True}, upload(), {"/keep_background"}),
    ({"mask": BOXES, "keep_background": True}, upload(), {"/keep_background"}),
    ({"mask": {"boxes": []}}, upload(), {"/mask/boxes"}),
    ({"mask": {"boxes": [[0, 0, 1, 1]] * 65}}, upload(), {"/mask/boxes"}),
    ({"mask": {"boxes": [[0, 0, 9, 9], [1, 2, 3]]}}, upload(), {"/mask/boxes/1"}),
    ({"mask": {"boxes": [[0, 0, 9, 9.5]]}}, upload(), {"/mask/boxes/0"}),
    ({"mask": {"boxes": [[0, 0, 9, True]]}}, upload(), {"/mask/boxes/0"}),
    ({"mask": {"boxes": [[0, 0, 9, "9"]]}}, upload(), {"/mask/boxes/0"}),
    ({"mask": {"boxes": [[0, 0, 9, float("inf")]]}}, upload(), {"/mask/boxes/0"}),
    ({"mask": {"boxes": {"x": 1}}}, upload(), {"/mask/boxes"}),
    ({"mask": {"boxes": [[0, 0, 9, 9], [40, 0, 9, 9]]}}, upload(), {"/mask/boxes/1"}),
    ({"mask": {"boxes": [[-1, 0, 9, 9]]}}, upload(), {"/mask/boxes/0"}),
    ({"mask": {"boxes": [[0, 0, 9, 0]]}}, upload(), {"/mask/boxes/0"}),
    ({"denoising_strength": 0.0}, upload(), {"/denoising_strength"}),
    ({"denoising_strength": 1.1}, upload(), {"/denoising_strength"}),
    ({"mask": BOXES, "mask_feather": -1}, upload(), {"/mask_feather"}),
    ({"image": {"image_id": "image_1", "url": "http://x"}}, None, {"/image/url"}),
]


@pytest.mark.parametrize(("fields", "files", "pointers"), WRONG)
def test_a_wrong_edit_is_refused_with_its_pointers_and_leaves_nothing(
    service: Service, fields: dict[str, Any], files: EditUpload | None, pointers: set[str]
) -> None:
    register_base_model(service)  # which has no segmenter
    with pytest.raises(Invalid) as refused:
        edit(service, files, **fields)
    assert {error.pointer for error in refused.value.errors} == pointers
    assert all(error.detail.endswith(".") for error in refused.value.errors)
    assert blob_keys(service) == set()
    assert jobs.list_page(service, OWNER).items == ()


def test_a_mask_and_boxes_are_checked_against_a_generated_image_too(service: Service) -> None:
    image = {"image_id": image_of(service)}
    for fields, files, pointer in (
        ({"mask": {"boxes": [[40, 0, 9, 9]]}}, None, "/mask/boxes/0"),
        ({}, EditUpload(mask=file(Image.new("L", (40, 48), "white"))), "/mask_image"),
    ):
        with pytest.raises(Invalid) as refused:
            edit(service, files, image=image, **fields)
        assert [error.pointer for error in refused.value.errors] == [pointer]
    white = EditUpload(mask=file(Image.new("L", SIZE, "white")))
    assert job_of(edit(service, white, image=image))


def test_an_image_of_somebody_else_is_unknown(service: Service) -> None:
    hers = image_of(service, STRANGER)
    for image_id in (hers, "image_0123", "../x"):
        with pytest.raises(NotFound, match="There is no such image"):
            edit(service, image={"image_id": image_id})


def test_a_subject_is_accepted_if_a_segmenter_is_served_or_no_worker_has_come_yet(
    service: Service,
) -> None:
    mask = {"subject": "red cup"}
    assert job_of(edit(service, upload(), mask=mask))
    register_base_model(service, info={"segmenter": "clipseg"})
    payload = GeneratePayload.read(
        claim(service, job_of(edit(service, upload(), mask=mask))).payload
    )
    assert payload.edit is not None
    assert payload.edit.subject == "red cup"


def test_a_repeated_edit_is_answered_as_the_first_and_another_picture_is_another_request(
    service: Service,
) -> None:
    first = edit(service, upload(mask=SIZE), key="k", mask_feather=0)
    before = blob_keys(service)
    again = edit(service, upload(mask=SIZE), key="k", mask_feather=0)
    assert (again.replayed, again.body) == (True, first.body)
    others: list[tuple[EditUpload | None, dict[str, Any]]] = [
        (upload(seed=1, mask=SIZE), {"mask_feather": 0}),
        (upload(), {}),
        (upload(mask=SIZE), {}),
        (None, {}),
    ]
    for files, fields in others:
        with pytest.raises(Invalid) as refused:
            edit(service, files, key="k", **fields)
        assert refused.value.slug == "idempotency-key-reused"
    assert blob_keys(service) == before


def test_files_that_wait_for_their_edit_count_as_stored(
    make_service: Callable[..., Service],
) -> None:
    service = make_service(max_bytes_per_owner=1024**2)
    job_id = job_of(edit(service, upload(mask=SIZE)))
    size_bytes = sum(blob.size_bytes for blob in service.blobs.list(f"jobs/{job_id}/"))
    assert quota.stored_bytes(service, OWNER) == size_bytes > 0
    assert quota.stored_bytes(service, STRANGER) == 0
    service.sizes.known[OWNER] = (float("inf"), 1024**2)
    with pytest.raises(StorageFull):
        edit(service, upload())
    jobs.cancel(service, OWNER, job_id=job_id)
    assert quota.stored_bytes(service, OWNER) == 0
    assert blob_keys(service) == set()


def test_a_refusal_by_the_prompt_removes_the_files_and_a_lost_answer_keeps_them(
    service: Service,
) -> None:
    with pytest.raises(ServiceError):
        edit(service, upload(), prompt="a <zebra>")
    assert blob_keys(service) == set()
    object.__setattr__(service, "database", LosingDatabase(service.database))
    with pytest.raises(ServiceError):
        edit(service, upload())
    assert len(blob_keys(service)) == 1

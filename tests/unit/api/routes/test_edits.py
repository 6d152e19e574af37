"""POST /generate as a form: the picture of an edit is decoded, kept for its job, or refused."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from httpx2 import Response
from PIL import Image
from starlette.testclient import TestClient

from api.app import create_app
from service.execution import leases
from service.jobs.payloads import GeneratePayload
from service.wiring import Service
from tests.unit.api.checks import pointers, refusal
from tests.unit.service import staging
from tests.unit.service.pictures.test_uploads import animated

PICTURE = staging.picture(size=(120, 80))
GOOD = staging.encoded(PICTURE)


def mask(size: tuple[int, int] = (120, 80), *, grey: int = 255) -> bytes:
    painted = Image.new("L", size, 0)
    painted.paste(grey, (30, 20, 70, 60))
    return staging.encoded(painted)


def edit(
    client: TestClient,
    picture: bytes | None = GOOD,
    /,
    *,
    mask_image: bytes | None = None,
    headers: dict[str, str] | None = None,
    **fields: Any,
) -> Response:
    files: dict[str, Any] = {"request": (None, json.dumps({"prompt": "a boat", **fields}))}
    if picture is not None:
        files["image"] = ("a.png", picture)
    if mask_image is not None:
        files["mask_image"] = ("m.png", mask_image)
    return client.post("/generate", files=files, headers=headers or {})


def payload_of(service: Service, answer: Response) -> GeneratePayload:
    assert answer.status_code == 202, answer.text
    return GeneratePayload.read(staging.claim(service, answer.json()["job"]["id"]).payload)


def test_a_form_becomes_a_job_that_keeps_the_picture_at_its_full_size(
    client: TestClient, service: Service
) -> None:
    large = staging.picture(size=(2600, 900))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    exif[0x010E] = "a private note"
    sent = staging.encoded(large, exif=exif)
    boxes = {"boxes": [[0, 2000, 900, 600.0]]}
    payload = payload_of(service, edit(client, sent, mask=boxes, denoising_strength=1))
    assert payload.edit is not None
    stored = service.blobs.get(payload.edit.picture_key or "")
    picture = staging.opened(stored)
    assert picture.size == (900, 2600)
    assert picture.tobytes() == large.transpose(Image.Transpose.ROTATE_270).tobytes()
    assert picture.info == {}
    assert b"private" not in stored
    assert payload.edit.boxes == ((0, 2000, 900, 600),)


def test_grey_counts_as_white_from_128_on_and_transparent_pixels_lie_on_white(
    client: TestClient, service: Service
) -> None:
    clear = Image.new("RGBA", (120, 80), (10, 20, 30, 0))
    clear.paste((1, 2, 3, 255), (0, 0, 60, 80))
    answer = edit(client, staging.encoded(clear), mask_image=mask(grey=128))
    payload = payload_of(service, answer)
    assert payload.edit is not None
    picture = staging.opened(service.blobs.get(payload.edit.picture_key or ""))
    assert (picture.mode, picture.getpixel((3, 3))) == ("RGB", (1, 2, 3))
    assert picture.getpixel((100, 3)) == (255, 255, 255)


def test_a_mask_may_be_painted_over_a_generated_image(client: TestClient, service: Service) -> None:
    job_id = client.post("/generate", json={"prompt": "a boat"}).json()["job"]["id"]
    claimed = staging.claim(service, job_id)
    assert leases.finish_generation(service, claimed, images=staging.generated(service, claimed))
    image_id = client.get(f"/jobs/{job_id}").json()["images"][0]["id"]
    image = {"image_id": image_id}
    payload = payload_of(service, edit(client, None, mask_image=mask((48, 40)), image=image))
    assert payload.edit is not None
    assert (payload.edit.image_id, payload.edit.picture_key) == (image_id, None)
    refused = edit(client, None, mask_image=mask(), image=image)
    assert pointers(refusal(refused, 422)) == {"/mask_image"}
    alone = client.post("/generate", json={"prompt": "a", "image": image})
    assert alone.status_code == 202


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({"mask_image": mask((80, 120))}, 422, "/mask_image"),
    ({"mask_image": mask(grey=127)}, 422, "/mask_image"),
    ({"mask_image": b""}, 422, "/mask_image"),
    ({"mask_image": b"no picture" * 9}, 415, "/mask_image"),
    ({"mask_image": mask(), "mask": {"boxes": [[0, 0, 9, 9]]}}, 422, "/mask"),
    ({"picture": animated("WEBP")}, 422, "/image"),
    ({"picture": animated("PNG")}, 422, "/image"),
    ({"picture": GOOD[:400]}, 422, "/image"),
    ({"picture": b"GIF89a" * 20}, 415, "/image"),
    ({"picture": b""}, 422, "/image"),
    ({"picture": staging.encoded(Image.new("RGB", (31, 200)))}, 422, "/image"),
    ({"mask": {"boxes": [[100, 0, 21, 9]]}}, 422, "/mask/boxes/0"),
    ({"mask": {"boxes": [[0, 0, 9]]}}, 422, "/mask/boxes/0"),
    ({"mask": {"subject": "cup"}}, 422, "/mask/subject"),
    ({"mask_image": mask(), "width": 64}, 422, "/width"),
    ({"denoising_strength": 0}, 422, "/denoising_strength"),
    ({"colour": 1}, 422, "/colour"),
    ({"prompt": "a <zebra>"}, 422, "/prompt"),
    ({"picture": None, "mask_image": mask()}, 422, "/mask_image"),
    ({"picture": None, "denoising_strength": 0.5}, 422, "/denoising_strength"),
]


@pytest.mark.parametrize(("sent", "status", "pointer"), WRONG)
def test_a_wrong_edit_is_refused_with_its_pointer_and_nothing_is_stored(
    refusing: TestClient, sent: dict[str, Any], status: int, pointer: str
) -> None:
    fields = {"picture": GOOD, **sent}
    assert pointers(refusal(edit(refusing, fields.pop("picture"), **fields), status)) == {pointer}


@pytest.mark.parametrize(
    ("files", "status", "pointer"),
    [
        ({"image": ("a.png", GOOD)}, 422, "/request"),
        ({"request": (None, '{"prompt": "a"}'), "image": (None, "text")}, 422, "/image/0"),
        ({"request": (None, '{"prompt": "a"}'), "photo": ("a.png", GOOD)}, 422, "/photo"),
        ({"request": (None, "[1]"), "image": ("a.png", GOOD)}, 422, "/request"),
        ({"request": (None, "{"), "image": ("a.png", GOOD)}, 422, "/request"),
    ],
)
def test_a_wrong_form_is_refused(
    refusing: TestClient, files: dict[str, Any], status: int, pointer: str
) -> None:
    assert pointers(refusal(refusing.post("/generate", files=files), status)) == {pointer}


def test_a_picture_above_the_limits_is_refused(
    make_service: Callable[..., Service], make_client: Callable[..., TestClient]
) -> None:
    client = make_client(make_service(max_picture_pixels=9000, max_picture_bytes=100_000))
    assert pointers(refusal(edit(client), 422)) == {"/image"}
    noise = staging.encoded(staging.picture(size=(300, 200)))
    assert pointers(refusal(edit(client, noise), 413, "picture-too-large")) == {"/image/0"}


def test_the_same_key_with_another_picture_is_refused(client: TestClient, service: Service) -> None:
    key = {"Idempotency-Key": "k"}
    first = edit(client, headers=key)
    before = staging.blob_keys(service)
    again = edit(client, headers=key)
    assert (again.json(), again.headers["idempotency-replayed"]) == (first.json(), "true")
    other = staging.encoded(staging.picture(size=(120, 80), seed=1))
    refusal(edit(client, other, headers=key), 422, "idempotency-key-reused")
    assert staging.blob_keys(service) == before


@pytest.fixture
def embedded(
    make_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Service, TestClient]]:
    """Serve the application with its embedded worker and a base model that draws noise."""
    from tests.unit.worker.staging import noise_model
    from worker import context as composition

    build = composition.build
    model = noise_model()
    monkeypatch.setattr(composition, "build", lambda service, **_: build(service, base=model))
    service = make_service(evaluator="none", heartbeat_seconds=0.1, lease_seconds=4)
    app = create_app(service, embedded=True)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        give_up_at = time.monotonic() + 60
        while client.get("/models").status_code != 200:
            assert time.monotonic() < give_up_at
            time.sleep(0.05)
        yield service, client


def test_an_edit_through_http_keeps_every_pixel_outside_its_mask(
    embedded: tuple[Service, TestClient],
) -> None:
    service, client = embedded
    sent = staging.picture(size=(300, 200))
    painted = Image.new("L", sent.size, 0)
    painted.paste(255, (100, 60, 180, 120))
    form = {
        "mask_image": staging.encoded(painted),
        "num_inference_steps": 2,
        "seed": 5,
    }
    answer = edit(client, staging.encoded(sent), headers={"Prefer": "wait=60"}, **form)
    assert answer.status_code == 200, answer.text
    job = answer.json()["job"]
    assert job["status"] == "succeeded", job["error"]
    [image] = job["images"]
    assert (image["width"], image["height"]) == sent.size
    made = staging.opened(client.get(image["url"]).content).convert("RGB")
    outside = painted.point(lambda grey: 255 - grey)
    black = Image.new("RGB", sent.size)
    kept = [Image.composite(each, black, outside).tobytes() for each in (made, sent)]
    assert kept[0] == kept[1]
    assert made.tobytes() != sent.tobytes()
    assert not [key for key in staging.blob_keys(service) if "/edit/" in key]
    repeated = edit(client, staging.encoded(sent), headers={"Prefer": "wait=60"}, **form)
    again = repeated.json()["job"]["images"][0]
    assert client.get(again["url"]).content == client.get(image["url"]).content

    # The image is the start of the next edit, whose picture is scaled to the base model's size.
    follow = {"prompt": "a boat", "image": {"image_id": image["id"]}, "num_inference_steps": 2}
    job = client.post("/generate", json=follow, headers={"Prefer": "wait=60"}).json()["job"]
    assert job["status"] == "succeeded", job["error"]
    side = client.get("/models").json()["resolution"]["width"]
    assert (job["images"][0]["width"], job["images"][0]["height"]) == (side, side)

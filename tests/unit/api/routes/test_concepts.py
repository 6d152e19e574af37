import io
import json
import struct
import zlib
from typing import Any

import pytest
from httpx2 import Response
from PIL import Image
from starlette.testclient import TestClient

from service.execution import leases
from service.wiring import Service
from tests.unit.api.checks import pointers, refusal
from tests.unit.service import staging

Files = list[tuple[str, tuple[str, bytes]]]


def png(*, seed: int = 0) -> bytes:
    return staging.encoded(staging.picture(seed=seed))


def upload(
    client: TestClient,
    *,
    images: list[bytes] | None = None,
    masks: list[bytes] | None = None,
    fields: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    files: Files = [("images", (f"{k}.png", data)) for k, data in enumerate(images or [])]
    files += [("masks", (f"{k}.png", data)) for k, data in enumerate(masks or [])]
    # Without any file, the client would send the form as another media type.
    texts: Any = [(name, (None, value)) for name, value in {**NAMED, **(fields or {})}.items()]
    return client.post("/concepts", files=files + texts, headers=headers or {})


NAMED = {"name": "rex", "superclass": "toy dinosaur"}


def test_pictures_are_accepted_and_the_answer_names_concept_and_job(client: TestClient) -> None:
    training = json.dumps({"max_train_steps": 30, "learning_rate": 0.02, "flip": False})
    answer = upload(client, images=[png(), png(seed=1)], fields={"training": training})

    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert answer.headers["location"] == f"/jobs/{body['job']['id']}"
    assert body["concept"]["name"] == "rex"
    assert body["concept"]["placeholder"] == "<rex>"
    assert body["concept"]["status"] == "training"
    assert body["concept"]["job_id"] == body["job"]["id"]
    assert body["concept"]["training"]["learning_rate"] == 0.02
    assert body["concept"]["created_at"].endswith("Z")
    assert body["job"]["kind"] == "train"
    assert body["job"]["status"] == "queued"
    assert body["job"]["queue_position"] == 1
    assert body["job"]["progress"]["total_steps"] == 30
    assert client.get("/concepts/rex").json() == body["concept"]
    assert client.get(f"/concepts/{body['concept']['id']}").json() == body["concept"]
    assert client.get(answer.headers["location"]).json() == body["job"]


def test_crops_are_accepted_as_many_as_pictures(client: TestClient, service: Service) -> None:
    crops = json.dumps([None, [8, 0, 40, 40]])
    answer = upload(client, images=[png(), png(seed=1)], fields={"crops": crops})
    assert answer.status_code == 202, answer.text
    payload = staging.claim(service, answer.json()["job"]["id"]).payload
    assert [picture["crop"] for picture in payload["pictures"]] == [None, [8, 0, 40, 40]]


@pytest.mark.parametrize(
    ("crops", "pointer"),
    [
        ("x", "/crops"),
        ("{}", "/crops"),
        ("[null]", "/crops"),
        ("[null, null, null]", "/crops"),
        ("[null, 7]", "/crops/1"),
        ("[[1, 2, 3], null]", "/crops/0"),
        ("[null, [0, 0, 40.5, 40]]", "/crops/1"),
        ("[null, [0, 0, true, 40]]", "/crops/1"),
        ("[null, [0, 0, 1e400, 40]]", "/crops/1"),
        ("[null, [0, 0, 40, 41]]", "/crops/1"),
        ("[null, [0, 0, 8, 8]]", "/crops/1"),
    ],
)
def test_wrong_crops_are_refused_with_their_pointer(
    client: TestClient, crops: str, pointer: str
) -> None:
    answer = upload(client, images=[png(), png(seed=1)], fields={"crops": crops})
    assert pointers(refusal(answer, 422)) == {pointer}


def test_masks_and_options_sent_as_files_are_accepted(client: TestClient) -> None:
    mask = staging.encoded(Image.new("L", (48, 40), "white"))
    files: Any = [
        ("images", ("a.png", png())),
        ("masks", ("a.png", mask)),
        ("training", ("blob", b'{"seed": 3}', "application/json")),
    ]
    answer = client.post("/concepts", files=files, data=NAMED)
    assert answer.status_code == 202, answer.text
    assert answer.json()["concept"]["training"]["seed"] == 3


def bomb() -> bytes:
    """Return a PNG of 900 megapixels in a hundred kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    compressor = zlib.compressobj(9)
    row = b"\0" * (1 + 30_000 // 8)
    pixels = b"".join([compressor.compress(row * 100) for _ in range(300)]) + compressor.flush()
    body = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def animated_webp() -> bytes:
    frames = [staging.picture(seed=k) for k in range(2)]
    return staging.encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])


def truncated_jpeg() -> bytes:
    whole = staging.encoded(staging.picture(size=(200, 200)), "JPEG")
    return whole[: len(whole) // 2]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (bomb(), 422),
        (truncated_jpeg(), 422),
        (b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>', 415),
        (b"only text", 415),
        (b"", 422),
        (animated_webp(), 422),
        (staging.encoded(Image.new("RGB", (3, 3))), 422),
    ],
    ids=["bomb", "truncated", "svg", "text", "empty", "animated", "3x3"],
)
def test_a_bad_picture_is_refused_by_name(refusing: TestClient, data: bytes, status: int) -> None:
    problem = refusal(upload(refusing, images=[png(), data]), status)
    assert pointers(problem) == {"/images/1"}


@pytest.mark.parametrize("count", [0, 21, 100])
def test_a_wrong_number_of_pictures_is_refused(refusing: TestClient, count: int) -> None:
    problem = refusal(upload(refusing, images=[b"x"] * count), 422)
    assert pointers(problem) == {"/images"}
    assert "1 to 20" in problem["detail"]


def test_masks_that_do_not_match_are_refused(refusing: TestClient) -> None:
    few = refusal(upload(refusing, images=[png(), png()], masks=[png()]), 422)
    assert pointers(few) == {"/masks"}
    other_size = staging.encoded(Image.new("L", (64, 64), "white"))
    assert pointers(refusal(upload(refusing, images=[png()], masks=[other_size]), 422)) == {
        "/masks/0"
    }


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"superclass": ""}, "/superclass"),
        ({"superclass": "word " * 40}, "/superclass"),
        ({"superclass": "te\0ddy"}, "/superclass"),
        ({"name": "Not A Name"}, "/name"),
        ({"name": "x" * 64}, "/name"),
        ({"colour": "red"}, "/colour"),
        ({"training": "{"}, "/training"),
        ({"training": "[1]"}, "/training"),
        ({"training": "[" * 100_000}, "/training"),
        ({"training": '{"learning_rate": 9}'}, "/training/learning_rate"),
        ({"training": '{"max_train_steps": NaN}'}, "/training/max_train_steps"),
        ({"training": '{"seed": 1' + "0" * 40 + "}"}, "/training/seed"),
        ({"training": '{"flip": "yes"}'}, "/training/flip"),
        ({"training": '{"nonsense/~": 1}'}, "/training/nonsense~1~0"),
        ({"training": '{"\\ud800": 1}'}, "/training/"),
    ],
)
def test_a_wrong_part_is_refused_with_its_pointer(
    refusing: TestClient, fields: dict[str, str], pointer: str
) -> None:
    if len(fields.get("training", "")) > 64 * 1024:
        refusal(upload(refusing, images=[png()], fields=fields), 400)
        return
    assert pointers(refusal(upload(refusing, images=[png()], fields=fields), 422)) == {pointer}


def test_every_wrong_part_is_named_at_once(refusing: TestClient) -> None:
    fields = {"name": "?", "superclass": "", "training": '{"tau": 0}', "extra": "1"}
    problem = refusal(upload(refusing, images=[], fields=fields), 422)
    assert pointers(problem) == {"/images", "/name", "/superclass", "/training/tau", "/extra"}


def test_a_file_over_the_limit_of_one_file_is_refused(make_service: Any, make_client: Any) -> None:
    client = make_client(make_service(max_picture_bytes=20_000))
    problem = refusal(upload(client, images=[png(), b"x" * 20_001]), 413)
    assert pointers(problem) == {"/images/1"}


def test_an_upload_that_is_no_form_is_refused(refusing: TestClient) -> None:
    refusal(refusing.post("/concepts", json=NAMED), 415)
    broken = {"content-type": "multipart/form-data"}
    refusal(refusing.post("/concepts", content=b"x", headers=broken), 400, "unreadable")
    broken = {"content-type": "multipart/form-data; boundary=b"}
    refusal(refusing.post("/concepts", content=b"--c\r\n", headers=broken), 400, "unreadable")


def test_a_name_that_is_taken_is_a_conflict(client: TestClient, teddy: str) -> None:
    refusal(upload(client, images=[png()], fields={"name": teddy}), 409)


def test_the_same_idempotency_key_gives_the_first_answer_again(client: TestClient) -> None:
    key = {"Idempotency-Key": "a-b-c"}
    first = upload(client, images=[png()], headers=key)
    again = upload(client, images=[png()], headers=key)
    assert first.status_code == again.status_code == 202
    assert again.json() == first.json()
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert len(client.get("/jobs").json()["items"]) == 1
    other = upload(client, images=[png(seed=5)], headers=key)
    refusal(other, 422, "idempotency-key-reused")


def test_concepts_are_listed_in_pages_newest_first(client: TestClient, service: Service) -> None:
    for name in ("a", "b", "c"):
        staging.submit(service, name, owner_id="local")
    staging.submit(service, "d", owner_id="somebody-else")
    page = client.get("/concepts", params={"limit": 2}).json()
    assert [item["name"] for item in page["items"]] == ["c", "b"]
    rest = client.get("/concepts", params={"limit": 2, "cursor": page["next_cursor"]}).json()
    assert [item["name"] for item in rest["items"]] == ["a"]
    assert rest["next_cursor"] is None
    assert client.get("/concepts", params={"status": "ready"}).json()["items"] == []


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"limit": 0}, "/limit"),
        ({"limit": 101}, "/limit"),
        ({"limit": "many"}, "/limit"),
        ({"cursor": "nonsense"}, "/cursor"),
        # A time of year 0 in UTC: 0001-01-01T00:00:00+14:00|x
        ({"cursor": "MDAwMS0wMS0wMVQwMDowMDowMCsxNDowMHx4"}, "/cursor"),
        ({"status": "done"}, "/status"),
        ({"offset": 3}, "/offset"),
    ],
)
def test_a_wrong_query_is_refused(refusing: TestClient, query: Any, pointer: str) -> None:
    assert pointers(refusal(refusing.get("/concepts", params=query), 422)) == {pointer}


def test_a_concepts_file_is_sent_once_and_then_known(client: TestClient, teddy: str) -> None:
    concept = client.get(f"/concepts/{teddy}").json()
    answer = client.get(f"/concepts/{teddy}/file")
    assert answer.status_code == 200
    assert answer.headers["etag"] == f'"{concept["sha256"]}"'
    assert answer.headers["content-disposition"] == 'attachment; filename="teddy.safetensors"'
    assert len(answer.content) == concept["bytes"]
    for tag in (answer.headers["etag"], f'"x", W/{answer.headers["etag"]}', "*"):
        known = client.get(f"/concepts/{teddy}/file", headers={"If-None-Match": tag})
        assert known.status_code == 304
        assert known.content == b""
        assert known.headers["etag"] == answer.headers["etag"]
    other = client.get(f"/concepts/{teddy}/file", headers={"If-None-Match": '"other"'})
    assert other.status_code == 200


def test_the_file_of_a_concept_in_training_is_a_conflict(
    client: TestClient, service: Service
) -> None:
    staging.submit(service, "rex", owner_id="local")
    refusal(client.get("/concepts/rex/file"), 409)


def test_a_deleted_concept_really_goes(client: TestClient, service: Service, teddy: str) -> None:
    answer = client.delete(f"/concepts/{teddy}")
    assert answer.status_code == 204
    assert answer.content == b""
    refusal(client.get(f"/concepts/{teddy}"), 404)
    refusal(client.delete(f"/concepts/{teddy}"), 404)
    assert not any("safetensors" in key or "pictures" in key for key in staging.blob_keys(service))


def test_a_failed_training_shows_its_problem(client: TestClient, service: Service) -> None:
    job_id = staging.submit(service, "rex", owner_id="local")
    claimed = staging.claim(service, job_id)
    problem = {"type": "/problems/training-diverged", "title": "Training diverged", "detail": "It."}
    leases.fail(service, claimed, problem=problem)
    assert client.get(f"/jobs/{job_id}").json()["error"] == problem
    assert client.get("/concepts/rex").json()["status"] == "failed"


def test_metadata_of_pictures_is_not_kept(client: TestClient, service: Service) -> None:
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    data = staging.encoded(staging.picture(), "JPEG", exif=exif)
    assert upload(client, images=[data]).status_code == 202
    (key,) = [key for key in staging.blob_keys(service) if key.startswith("pictures/")]
    stored = service.blobs.get(key)
    assert b"secret" not in stored
    assert Image.open(io.BytesIO(stored)).format == "PNG"

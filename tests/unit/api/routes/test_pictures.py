"""POST /pictures/check accepts what POST /concepts accepts, and its job says what was found."""

from typing import Any

import pytest
from httpx2 import Response
from PIL import Image
from starlette.testclient import TestClient

from service.execution import leases
from service.wiring import Service
from tests.unit.api.checks import pointers, refusal
from tests.unit.service import staging
from tests.unit.service.inspected import inspected

GOOD = staging.encoded(staging.picture())


def check(
    client: TestClient,
    images: list[bytes],
    *,
    masks: list[bytes] | None = None,
    fields: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    files: Any = [("images", (f"{k}.png", data)) for k, data in enumerate(images)]
    files += [("masks", (f"{k}.png", data)) for k, data in enumerate(masks or [])]
    # A part without a filename: without any part, the client would send another media type.
    texts: Any = [
        (name, (None, value)) for name, value in (fields or {"superclass": "dog"}).items()
    ]
    return client.post("/pictures/check", files=files + texts, headers=headers or {})


def test_pictures_are_accepted_and_the_answer_names_the_job(client: TestClient) -> None:
    answer = check(client, [GOOD] * 20)
    assert answer.status_code == 202, answer.text
    job = answer.json()["job"]
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert (job["kind"], job["status"], job["pictures"]) == ("inspect", "queued", None)
    assert job["progress"]["total_steps"] == 20
    assert client.get(answer.headers["location"]).json() == job
    assert client.get("/jobs?kind=inspect").json()["items"] == [job]
    assert client.get("/jobs?kind=generate").json()["items"] == []
    cancelled = client.post(f"/jobs/{job['id']}/cancel")
    assert cancelled.json()["status"] == "cancelled"


@pytest.mark.parametrize(
    ("images", "more", "status", "pointer"),
    [
        ([], {}, 422, "/images"),
        ([GOOD] * 21, {}, 422, "/images"),
        ([GOOD], {"masks": [GOOD, GOOD]}, 422, "/masks"),
        ([GOOD, b"This is no picture."], {}, 415, "/images/1"),
        ([GOOD], {"masks": [staging.encoded(Image.new("L", (40, 48)))]}, 422, "/masks/0"),
        ([GOOD], {"fields": {"superclass": "a b c d"}}, 422, "/superclass"),
        ([GOOD], {"fields": {"name": "rex"}}, 422, "/name"),
    ],
)
def test_a_wrong_part_is_refused_with_its_pointer(
    client: TestClient,
    service: Service,
    images: list[bytes],
    more: dict[str, Any],
    status: int,
    pointer: str,
) -> None:
    assert pointers(refusal(check(client, images, **more), status)) == {pointer}
    assert staging.blob_keys(service) == set()


def test_a_repeated_check_is_answered_as_the_first(client: TestClient) -> None:
    first = check(client, [GOOD], headers={"Idempotency-Key": "k"})
    again = check(client, [GOOD], headers={"Idempotency-Key": "k"})
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert len(client.get("/jobs").json()["items"]) == 1


def test_a_finished_check_shows_findings_and_masks(client: TestClient, service: Service) -> None:
    job_id = check(client, [GOOD, GOOD], fields={"superclass": "dog"}).json()["job"]["id"]
    claimed = staging.claim(service, job_id)
    found = inspected(service, claimed)
    assert leases.finish_inspection(service, claimed, pictures=found)
    first, second = client.get(f"/jobs/{job_id}").json()["pictures"]
    assert second["findings"] == [
        {"code": "blurred", "detail": "It is blurred.", "remedy": "Take it again."}
    ]
    assert (first["crop"], first["mask_source"]) == ([0, 0, 40, 40], "segmenter")
    mask = client.get(first["mask_url"])
    assert (mask.headers["content-type"], mask.headers["etag"]) == ("image/png", f'"{"8" * 64}"')
    refusal(client.get(f"/jobs/{job_id}/pictures/1/mask"), 404, "mask-not-found")
    with client.stream("GET", f"/jobs/{job_id}/events") as stream:
        assert "signed_mask_url" in "".join(stream.iter_text())

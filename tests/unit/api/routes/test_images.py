"""Images over HTTP: listed, as JSON, as thumbnails, and deleted with their jobs."""

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.concepts import use_cases as concepts
from service.wiring import Service
from tests.unit.api.checks import pointers, refusal
from tests.unit.api.routes.test_generate import finish
from tests.unit.service import staging


def draw(client: TestClient, service: Service, **body: Any) -> str:
    """Generate one image; return the id of its job."""
    answer = client.post("/generate", json={"prompt": "a dog", **body})
    assert answer.status_code == 202, answer.text
    finish(service, answer.json()["job"]["id"])
    return str(answer.json()["job"]["id"])


def test_the_list_and_the_json_of_an_image_say_the_same(
    client: TestClient, service: Service
) -> None:
    draw(client, service)
    job_id = draw(client, service, prompt="a Boat")
    page = client.get("/images", params={"q": "boat"}).json()
    (image,) = page["items"]
    assert page["next_cursor"] is None
    assert client.get(f"/images/{image['id']}.json").json() == image
    assert client.get(f"/jobs/{job_id}").json()["images"][0].items() <= image.items()
    assert len(client.get("/images", params={"limit": 1}).json()["items"]) == 1
    assert client.get("/images", params={"job_id": job_id}).json()["items"] == [image]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"concept": "a b"}, "/concept"),
        ({"q": "x" * 201}, "/q"),
        ({"q": "a\0"}, "/q"),
        ({"limit": 101}, "/limit"),
        ({"cursor": "x"}, "/cursor"),
        ({"prompt": "a"}, "/prompt"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(
    client: TestClient, query: dict[str, Any], pointer: str
) -> None:
    assert pointers(refusal(client.get("/images", params=query), 422)) == {pointer}


def test_a_thumbnail_is_cached_like_its_image(client: TestClient, service: Service) -> None:
    draw(client, service)
    (image,) = client.get("/images").json()["items"]
    answer = client.get(image["thumbnail_url"])
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    again = client.get(image["thumbnail_url"], headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_deleted_image_is_gone_for_every_cache_and_link(
    client: TestClient, service: Service
) -> None:
    draw(client, service, attention_maps=True)
    (image,) = client.get("/images").json()["items"]
    urls = [image[name] for name in image if name.endswith("url")]
    urls += [image["attention_maps"][0][name] for name in ("url", "signed_url")]
    etags = [client.get(url).headers["etag"] for url in urls]
    assert len(urls) == 6

    answer = client.delete(image["url"])
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["clear-site-data"] == '"cache"'
    for url, etag in zip(urls, etags, strict=True):
        refusal(client.get(url, headers={"If-None-Match": etag}), 404, "image-not-found")
    refusal(client.get(f"/images/{image['id']}.json"), 404, "image-not-found")
    refusal(client.delete(image["url"]), 404, "image-not-found")


def test_a_job_is_deleted_when_it_has_ended_and_its_concept_is_gone(
    client: TestClient, service: Service, tmp_path: Path
) -> None:
    job_id = draw(client, service)
    assert client.delete(f"/jobs/{job_id}").status_code == 204
    refusal(client.get(f"/jobs/{job_id}"), 404, "job-not-found")
    assert client.get("/images").json()["items"] == []

    waiting = client.post("/generate", json={"prompt": "a dog"}).json()["job"]["id"]
    problem = refusal(client.delete(f"/jobs/{waiting}"), 409, "job-unfinished")
    assert "cancel it first" in problem["detail"]
    training = staging.ready(service, "rex", owner_id="local")
    problem = refusal(client.delete(f"/jobs/{training}"), 409, "job-of-a-concept")
    assert "the concept rex" in problem["detail"]
    concepts.delete(service, "local", ref="rex")
    assert client.delete(f"/jobs/{training}").headers["clear-site-data"] == '"cache"'

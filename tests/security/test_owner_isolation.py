"""Call every route of OpenAPI without a key, with a stranger's key, and without its scopes.

A new route fails here until the tables below say what a stranger may see of it.
"""

import json

import pytest
from httpx2 import Response

from service import auth
from service.auth import ALL_SCOPES, Scope
from service.blobs import keys
from service.execution import leases
from tests.security.conftest import Scene, bearer
from tests.unit.api.checks import openai_refusal, refusal
from tests.unit.service import staging

OPEN = {("GET", "/healthz"), ("GET", "/readyz")}
# Routes that answer a stranger, without any object of the owner.
NOT_OWNED = {
    ("GET", "/base-model"): 200,
    ("GET", "/v1/models"): 200,
    ("GET", "/v1/models/{name}"): 200,
    ("GET", "/models"): 200,
    ("GET", "/metrics"): 403,
    ("GET", "/concepts"): 200,
    ("GET", "/jobs"): 200,
    ("GET", "/images"): 200,
    ("POST", "/concepts"): 202,
    ("POST", "/concepts/import"): 201,
    ("POST", "/pictures/check"): 202,
    # The prompt names a concept that is not the stranger's.
    ("POST", "/generate"): 422,
    ("POST", "/v1/images/generations"): 422,
    ("POST", "/v1/images/edits"): 422,
}
NEEDED: dict[tuple[str, str], set[Scope]] = {
    ("GET", "/base-model"): set(ALL_SCOPES),
    ("GET", "/models"): set(ALL_SCOPES),
    ("GET", "/v1/models"): set(ALL_SCOPES),
    ("GET", "/v1/models/{name}"): set(ALL_SCOPES),
    ("GET", "/metrics"): {Scope.METRICS},
    ("POST", "/concepts"): {Scope.TRAIN},
    ("POST", "/concepts/import"): {Scope.TRAIN},
    ("POST", "/pictures/check"): {Scope.TRAIN},
    ("DELETE", "/concepts/{ref}"): {Scope.TRAIN},
    ("PATCH", "/concepts/{ref}"): {Scope.TRAIN},
    ("POST", "/concepts/{ref}/train"): {Scope.TRAIN},
    ("POST", "/concepts/{ref}/revert"): {Scope.TRAIN},
    ("POST", "/generate"): {Scope.GENERATE},
    ("POST", "/v1/images/edits"): {Scope.GENERATE},
    ("POST", "/v1/images/generations"): {Scope.GENERATE},
    ("POST", "/jobs/{id}/cancel"): {Scope.GENERATE, Scope.TRAIN},
    ("POST", "/jobs/{id}/finish"): {Scope.TRAIN},
    ("DELETE", "/jobs/{id}"): {Scope.GENERATE, Scope.TRAIN},
    ("DELETE", "/images/{id}"): {Scope.GENERATE},
}


def call(scene: Scene, method: str, path: str, *, ref: str, key: str | None) -> Response:
    """Send a request that succeeds for the owner."""
    owned = scene.owned
    if path.startswith("/images/"):
        identity = owned.image_id
    elif path.startswith("/concepts/"):
        identity = owned.concept_id
    else:
        by_path = {"/preview": owned.training_id, "/mask": owned.inspection_id}
        identity = by_path.get(path[path.rindex("/") :], owned.job_id)
    url = path.replace("{ref}", ref).replace("{id}", identity).replace("{k}", "0")
    url = url.replace("{name}", "default")
    body: dict[str, object] = {}
    if method == "PATCH":
        body = {"json": {"name": "another", "description": "Stolen."}}
    elif (method, path) in {("POST", "/generate"), ("POST", "/v1/images/generations")}:
        body = {"json": {"prompt": f"<{owned.concept_name}>"}}
    elif (method, path) == ("POST", "/v1/images/edits"):
        picture = staging.encoded(staging.picture())
        fields = {"prompt": f"<{owned.concept_name}>"}
        body = {"files": {"image": ("a.png", picture)}, "data": fields}
    elif (method, path) == ("POST", "/concepts"):
        picture = staging.encoded(staging.picture())
        fields = {"name": owned.concept_name, "superclass": "bear"}
        body = {"files": {"images": ("a.png", picture)}, "data": fields}
    elif (method, path) == ("POST", "/pictures/check"):
        body = {"files": {"images": ("a.png", staging.encoded(staging.picture()))}}
    elif (method, path) == ("POST", "/concepts/import"):
        body = {"files": {"file": ("a", staging.core_concept("imported").to_bytes())}}
    headers = bearer(key) if key is not None else {}
    return scene.client.request(method, url, headers=headers, **body)  # type: ignore[arg-type]


def everything(scene: Scene) -> list[object]:
    """Return what the owner sees of these objects."""
    headers = bearer(scene.key)
    return [
        scene.client.get("/concepts", headers=headers).json(),
        [job["status"] for job in scene.client.get("/jobs", headers=headers).json()["items"]],
        scene.client.get(f"/images/{scene.owned.image_id}", headers=headers).content,
        scene.client.get(f"/images/{scene.owned.image_id}/attention/1", headers=headers).content,
        scene.client.get(f"/images/{scene.owned.image_id}/thumbnail", headers=headers).content,
        [image["id"] for image in scene.client.get("/images", headers=headers).json()["items"]],
        scene.client.get(
            f"/jobs/{scene.owned.inspection_id}/pictures/0/mask", headers=headers
        ).content,
        scene.client.get(f"/jobs/{scene.owned.job_id}/sheet", headers=headers).content,
        scene.client.get("/concepts/rex/file", headers=headers).content,
        scene.client.get("/concepts/rex/curve", headers=headers).json(),
        scene.client.get("/concepts/rex/curve/0", headers=headers).content,
        scene.client.get("/concepts/rex/pictures/0", headers=headers).content,
    ]


def test_a_stranger_finds_nothing_on_any_route(scene: Scene) -> None:
    before = everything(scene)
    for method, path, _ in scene.operations():
        if (method, path) in OPEN:
            continue
        for ref in (scene.owned.concept_name, scene.owned.concept_id):
            # A new stranger for each request, who has no objects from earlier ones.
            stranger, _ = auth.create_key(scene.service, label="his")
            answer = call(scene, method, path, ref=ref, key=stranger)
            expected = NOT_OWNED.get((method, path), 404)
            assert answer.status_code == expected, (method, path, answer.text)
            owned = scene.owned
            for identity in (owned.concept_id, owned.job_id, owned.image_id, owned.inspection_id):
                assert identity not in answer.text
            if (method, path) in {("GET", "/concepts"), ("GET", "/jobs"), ("GET", "/images")}:
                assert answer.json() == {"items": [], "next_cursor": None}
    assert everything(scene) == before


def test_without_a_good_key_every_route_is_closed(scene: Scene) -> None:
    revoked, view = auth.create_key(scene.service, label="old")
    auth.revoke_key(scene.service, view.id)
    wrong = scene.key[:-1] + ("a" if scene.key[-1] != "a" else "b")
    for method, path, operation in scene.operations():
        if (method, path) in OPEN:
            continue
        assert operation["security"] == [{"key": []}]
        for key in (None, wrong, revoked, "sk_", "x" * 5000):
            answer = call(scene, method, path, ref="rex", key=key)
            (openai_refusal if path.startswith("/v1/") else refusal)(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert key is None or key not in answer.text


def test_a_key_does_nothing_beyond_its_scopes(scene: Scene) -> None:
    for method, path, _ in scene.operations():
        if (method, path) in OPEN:
            continue
        needed = NEEDED.get((method, path), {Scope.READ})
        if others := ALL_SCOPES - needed:
            key, _ = auth.create_key(
                scene.service, label="narrow", owner_id=scene.owner_id, scopes=others
            )
            answer = call(scene, method, path, ref="rex", key=key)
            if path.startswith("/v1/"):
                openai_refusal(answer, 403, "scope_missing")
            else:
                refusal(answer, 403, "scope-missing")
    for (method, path), scopes in NEEDED.items():
        for scope in scopes:
            key, _ = auth.create_key(
                scene.service, label="one", owner_id=scene.owner_id, scopes=[scope]
            )
            answer = call(scene, method, path, ref="missing", key=key)
            assert answer.status_code != 403, (method, path, scope)


@pytest.mark.parametrize("part", ["job", "list", "images", "image", "event"])
def test_a_signed_url_opens_its_image_without_a_key_and_no_other(scene: Scene, part: str) -> None:
    client, owned, headers = scene.client, scene.owned, bearer(scene.key)
    if part == "job":
        image = client.get(f"/jobs/{owned.job_id}", headers=headers).json()["images"][0]
    elif part == "list":
        jobs = client.get("/jobs?kind=generate", headers=headers).json()["items"]
        image = jobs[0]["images"][0]
    elif part == "images":
        (image,) = client.get("/images", headers=headers).json()["items"]
    elif part == "image":
        image = client.get(f"/images/{owned.image_id}.json", headers=headers).json()
    else:
        text = client.get(f"/jobs/{owned.job_id}/events", headers=headers).text
        assert owned.image_id in text
        return
    answer = client.get(image["signed_url"])
    assert answer.status_code == 200
    assert answer.content == client.get(image["url"], headers=headers).content
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    refusal(client.get(image["url"]), 401)
    thumbnail = client.get(image["signed_thumbnail_url"])
    assert thumbnail.content == client.get(image["thumbnail_url"], headers=headers).content
    assert thumbnail.headers["content-type"] == "image/webp"
    refusal(client.get(image["thumbnail_url"]), 401)

    other = image["signed_url"].replace(owned.image_id, "image_0123")
    longer = image["signed_url"].replace("expires=", "expires=9")
    for changed in (other, longer, image["signed_url"][:-1], image["signed_url"].split("&")[0]):
        refusal(client.get(changed), 401, "link-not-valid")
    # A key does not make a broken link valid: the signature decides.
    refusal(client.get(longer, headers=headers), 401, "link-not-valid")


def test_a_signed_url_opens_the_maps_of_its_image_without_a_key(scene: Scene) -> None:
    client, headers = scene.client, bearer(scene.key)
    image = client.get(f"/jobs/{scene.owned.job_id}", headers=headers).json()["images"][0]
    for attention_map in image["attention_maps"]:
        answer = client.get(attention_map["signed_url"])
        assert answer.status_code == 200
        assert answer.content == client.get(attention_map["url"], headers=headers).content
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        refusal(client.get(attention_map["url"]), 401)
        refusal(client.get(attention_map["signed_url"][:-1]), 401, "link-not-valid")


def test_a_signed_url_opens_the_masks_of_its_job_without_a_key_and_nothing_else(
    scene: Scene,
) -> None:
    client, headers = scene.client, bearer(scene.key)
    job_id = scene.owned.inspection_id
    first, last = client.get(f"/jobs/{job_id}", headers=headers).json()["pictures"]
    answer = client.get(first["signed_mask_url"])
    assert answer.status_code == 200
    assert answer.content == client.get(first["mask_url"], headers=headers).content
    assert (last["mask_url"], "signed_mask_url" in last) == (None, False)
    refusal(client.get(first["mask_url"]), 401)
    query = first["signed_mask_url"].partition("?")[2]
    for url in (f"/jobs/{scene.owned.job_id}/pictures/0/mask", f"/images/{scene.owned.image_id}"):
        refusal(client.get(f"{url}?{query}"), 401, "link-not-valid")
    refusal(client.get(f"/jobs/{job_id}?{query}"), 401)


def test_a_signed_url_opens_the_pictures_of_its_concept_without_a_key_and_nothing_else(
    scene: Scene,
) -> None:
    client, headers, concept_id = scene.client, bearer(scene.key), scene.owned.concept_id
    (picture,) = client.get("/concepts/rex/pictures", headers=headers).json()["items"]
    assert picture["url"] == f"/concepts/{concept_id}/pictures/0"
    answer = client.get(picture["signed_url"])
    assert answer.status_code == 200
    assert answer.content == client.get(picture["url"], headers=headers).content
    assert answer.headers["cache-control"] == "private, no-cache"
    refusal(client.get(picture["url"]), 401)
    query = picture["signed_url"].partition("?")[2]
    for url in ("/concepts/rex/pictures/0", f"/images/{scene.owned.image_id}"):
        refusal(client.get(f"{url}?{query}"), 401, "link-not-valid")
    refusal(client.get(f"/concepts/{concept_id}?{query}"), 401)


def test_a_signed_url_ends_within_a_quarter_of_an_hour(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    from api import signed_urls

    job = scene.client.get(f"/jobs/{scene.owned.job_id}", headers=bearer(scene.key)).json()
    link = job["images"][0]["signed_url"]
    now = time.time()
    for seconds, status in ((599, 200), (signed_urls.MAX_AGE_SECONDS, 401)):
        monkeypatch.setattr(signed_urls.time, "time", lambda later=now + seconds: later)
        assert scene.client.get(link).status_code == status


def test_a_picture_to_edit_is_its_owners_and_no_route_serves_it(scene: Scene) -> None:
    client, headers = scene.client, bearer(scene.key)
    photo = staging.encoded(staging.picture(size=(64, 48)))
    mask = {"boxes": [[0, 0, 20, 20]]}
    form = {
        "request": (None, json.dumps({"prompt": "a boat", "mask": mask})),
        "image": ("photo.png", photo),
    }
    refusal(client.post("/generate", files=form), 401)
    answer = client.post("/generate", files=form, headers=headers)
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["job"]["id"]
    uploaded = keys.edit_picture_key(job_id)
    assert staging.opened(scene.service.blobs.get(uploaded)).size == (64, 48)
    for path in ("preview", "pictures/0/mask"):
        refusal(client.get(f"/jobs/{job_id}/{path}", headers=headers), 404)
    claimed = staging.claim(scene.service, job_id)
    images = staging.generated(scene.service, claimed)
    assert leases.finish_generation(scene.service, claimed, images=images)
    assert uploaded not in staging.blob_keys(scene.service)

    # Only its owner can go on from a generated image.
    body = {"prompt": "a boat", "image": {"image_id": scene.owned.image_id}}
    stranger, _ = auth.create_key(scene.service, label="his")
    refusal(client.post("/generate", json=body, headers=bearer(stranger)), 404, "image-not-found")
    assert client.post("/generate", json=body, headers=headers).status_code == 202

"""Call every route of OpenAPI without a key, with a stranger's key, and without its scopes.

A new route fails here until the tables below say what a stranger may see of it.
"""

import pytest
from httpx2 import Response

from service import auth
from service.auth import ALL_SCOPES, Scope
from tests.security.conftest import Scene, bearer
from tests.unit.api.checks import refusal
from tests.unit.service import staging

OPEN = {("GET", "/healthz"), ("GET", "/readyz")}
# Routes that answer a stranger, without any object of the owner.
NOT_OWNED = {
    ("GET", "/base-model"): 200,
    ("GET", "/models"): 200,
    ("GET", "/metrics"): 403,
    ("GET", "/concepts"): 200,
    ("GET", "/jobs"): 200,
    ("POST", "/concepts"): 202,
    ("POST", "/concepts/import"): 201,
    ("POST", "/generate"): 422,  # the prompt names a concept that is not the stranger's
}
NEEDED: dict[tuple[str, str], set[Scope]] = {
    ("GET", "/base-model"): set(ALL_SCOPES),
    ("GET", "/models"): set(ALL_SCOPES),
    ("GET", "/metrics"): {Scope.METRICS},
    ("POST", "/concepts"): {Scope.TRAIN},
    ("POST", "/concepts/import"): {Scope.TRAIN},
    ("DELETE", "/concepts/{ref}"): {Scope.TRAIN},
    ("POST", "/concepts/{ref}/train"): {Scope.TRAIN},
    ("POST", "/concepts/{ref}/revert"): {Scope.TRAIN},
    ("POST", "/generate"): {Scope.GENERATE},
    ("POST", "/jobs/{id}/cancel"): {Scope.GENERATE, Scope.TRAIN},
}


def call(scene: Scene, method: str, path: str, *, ref: str, key: str | None) -> Response:
    """Send a request that succeeds for the owner."""
    owned = scene.owned
    if path.startswith("/images/"):
        identity = owned.image_id
    else:
        identity = owned.training_id if path.endswith("/preview") else owned.job_id
    url = path.replace("{ref}", ref).replace("{id}", identity).replace("{k}", "0")
    body: dict[str, object] = {}
    if (method, path) == ("POST", "/generate"):
        body = {"json": {"prompt": f"<{owned.concept_name}>"}}
    elif (method, path) == ("POST", "/concepts"):
        picture = staging.encoded(staging.picture())
        fields = {"name": owned.concept_name, "superclass": "bear"}
        body = {"files": {"images": ("a.png", picture)}, "data": fields}
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
        scene.client.get("/concepts/rex/file", headers=headers).content,
        scene.client.get("/concepts/rex/curve", headers=headers).json(),
        scene.client.get("/concepts/rex/curve/0", headers=headers).content,
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
            for identity in (scene.owned.concept_id, scene.owned.job_id, scene.owned.image_id):
                assert identity not in answer.text
            if (method, path) in {("GET", "/concepts"), ("GET", "/jobs")}:
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
            problem = refusal(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert key is None or key not in problem["detail"]


def test_a_key_does_nothing_beyond_its_scopes(scene: Scene) -> None:
    for method, path, _ in scene.operations():
        if (method, path) in OPEN:
            continue
        needed = NEEDED.get((method, path), {Scope.READ})
        if others := ALL_SCOPES - needed:
            key, _ = auth.create_key(
                scene.service, label="narrow", owner_id=scene.owner_id, scopes=others
            )
            refusal(call(scene, method, path, ref="rex", key=key), 403, "scope-missing")
    for (method, path), scopes in NEEDED.items():
        for scope in scopes:
            key, _ = auth.create_key(
                scene.service, label="one", owner_id=scene.owner_id, scopes=[scope]
            )
            answer = call(scene, method, path, ref="missing", key=key)
            assert answer.status_code != 403, (method, path, scope)


@pytest.mark.parametrize("part", ["job", "list", "event"])
def test_a_signed_url_opens_its_image_without_a_key_and_no_other(scene: Scene, part: str) -> None:
    client, owned, headers = scene.client, scene.owned, bearer(scene.key)
    if part == "job":
        image = client.get(f"/jobs/{owned.job_id}", headers=headers).json()["images"][0]
    elif part == "list":
        jobs = client.get("/jobs?kind=generate", headers=headers).json()["items"]
        image = jobs[0]["images"][0]
    else:
        text = client.get(f"/jobs/{owned.job_id}/events", headers=headers).text
        assert owned.image_id in text
        return
    answer = client.get(image["signed_url"])
    assert answer.status_code == 200
    assert answer.content == client.get(image["url"], headers=headers).content
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    refusal(client.get(image["url"]), 401)

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

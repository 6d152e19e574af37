import io

from PIL import Image
from starlette.testclient import TestClient

from perfusion_core.strength import beta_from_strength
from service.wiring import Service
from tests.unit.api.checks import refusal
from tests.unit.api.routes.test_concept_import import send_file
from tests.unit.service import staging


def test_a_curve_shows_what_each_strength_gives_and_which_to_take(
    client: TestClient, teddy: str
) -> None:
    curve = client.get(f"/concepts/{teddy}/curve").json()
    concept = client.get(f"/concepts/{teddy}").json()
    assert curve["concept_id"] == concept["id"]
    assert curve["evaluator"] == "evaluator"
    assert curve["prompts"] == ["a photo of a <teddy> on the beach"]
    assert curve["superclass"] == {"image_similarity": 0.35, "text_similarity": 0.3}
    assert (curve["ceiling"], curve["text_floor"]) == (0.75, 0)
    assert [point["strength"] for point in curve["points"]] == [0.2, 0.6, 0.9]
    biases = [beta_from_strength(strength) for strength in (0.2, 0.6, 0.9)]
    assert [point["beta"] for point in curve["points"]] == biases
    assert curve["recommended_strength"] == concept["recommended_strength"] == 0.6
    assert curve["verdict"] == concept["verdict"]
    assert curve["verdict"]["quality"] == "good"
    assert "plain bear" in curve["verdict"]["reasons"][0]
    assert client.get(f"/concepts/{concept['id']}/curve").json() == curve


def test_each_point_has_a_small_picture_that_is_sent_once(client: TestClient, teddy: str) -> None:
    points = client.get(f"/concepts/{teddy}/curve").json()["points"]
    pictures = [client.get(point["thumbnail_url"]) for point in points]
    assert len({answer.content for answer in pictures}) == 3
    for answer in pictures:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
        assert Image.open(io.BytesIO(answer.content)).size == (48, 40)
    tag = {"If-None-Match": pictures[0].headers["etag"]}
    assert client.get(points[0]["thumbnail_url"], headers=tag).status_code == 304


def test_there_are_no_more_pictures_than_points(client: TestClient, teddy: str) -> None:
    refusal(client.get(f"/concepts/{teddy}/curve/3"), 404, "curve-not-found")
    for wrong in ("-1", "x", "1e3", "9" * 40):
        refusal(client.get(f"/concepts/{teddy}/curve/{wrong}"), 422, "invalid")


def test_a_concept_without_a_curve_says_how_to_get_one(client: TestClient, teddy: str) -> None:
    assert send_file(client, staging.core_concept("plain").to_bytes()).status_code == 201
    for path in ("curve", "curve/0"):
        problem = refusal(client.get(f"/concepts/plain/{path}"), 404, "curve-not-found")
        assert "Train it again" in problem["detail"]
    concept = client.get("/concepts/plain").json()
    assert (concept["verdict"], concept["recommended_strength"]) == (None, None)


def test_the_curve_of_a_concept_in_training_is_a_conflict(
    client: TestClient, service: Service
) -> None:
    staging.submit(service, "rex", owner_id="local")
    refusal(client.get("/concepts/rex/curve"), 409, "concept-not-ready")
    assert client.get("/concepts/rex").json()["verdict"] is None


def test_a_curve_survives_export_and_import(client: TestClient, teddy: str) -> None:
    file = client.get(f"/concepts/{teddy}/file").content
    assert send_file(client, file, "copy").status_code == 201
    original, copy = (client.get(f"/concepts/{name}/curve").json() for name in (teddy, "copy"))
    for curve in (original, copy):
        del curve["concept_id"], curve["prompts"]
        for point in curve["points"]:
            del point["thumbnail_url"]
    assert original == copy

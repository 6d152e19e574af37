from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.access.auth import is_loopback
from service import auth
from service.wiring import Service
from tests.unit.api.checks import refusal
from tests.unit.service import staging

Make = Callable[..., Any]
PRIVATE = ("/jobs", "/concepts", "/base-model", "/metrics", "/images/x", "/jobs/x/events")
OPEN = ("/", "/docs", "/openapi.json", "/healthz", "/web/app.js")


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def locked(service: Service, make_client: Make) -> TestClient:
    """Return a client of a server that requires keys."""
    client: TestClient = make_client(service, key_required=True)
    return client


def test_without_a_key_only_the_open_addresses_answer(locked: TestClient) -> None:
    for path in PRIVATE:
        answer = locked.get(path)
        refusal(answer, 401, "key-missing")
        assert answer.headers["www-authenticate"] == "Bearer"
    for path in OPEN:
        assert locked.get(path).status_code == 200
    refusal(locked.post("/generate", json={"prompt": "a"}), 401)
    refusal(locked.post("/concepts", files={"images": b"x"}), 401)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic abc", "sk_abc", "Bearer sk_wrong", "Bearer \xff\xfe"]
)
def test_a_header_that_opens_nothing_is_refused(locked: TestClient, header: str) -> None:
    answer = locked.get("/jobs", headers={b"Authorization": header.encode("latin-1")})
    problem = refusal(answer, 401)
    assert header.removeprefix("Bearer ") not in problem["detail"] or len(header) < 10


def test_a_key_opens_its_owners_objects_and_no_others(locked: TestClient, service: Service) -> None:
    hers, key_of_hers = auth.create_key(service, label="hers")
    his, _ = auth.create_key(service, label="his")
    staging.ready(service, "rex", owner_id=key_of_hers.owner_id)
    job_id = locked.get("/concepts/rex", headers=bearer(hers)).json()["job_id"]

    for path in (
        "/concepts/rex",
        "/concepts/rex/file",
        f"/jobs/{job_id}",
        f"/jobs/{job_id}/events",
    ):
        assert locked.get(path, headers=bearer(hers)).status_code == 200
        refusal(locked.get(path, headers=bearer(his)), 404)
    refusal(locked.delete("/concepts/rex", headers=bearer(his)), 404)
    refusal(locked.post(f"/jobs/{job_id}/cancel", headers=bearer(his)), 404)
    assert locked.get("/concepts", headers=bearer(his)).json()["items"] == []


def test_a_revoked_key_opens_nothing_a_second_later(locked: TestClient, service: Service) -> None:
    now = 5.0
    locked.app_state["auth_cache"]._clock = lambda: now
    key, view = auth.create_key(service, label="short")
    assert locked.get("/jobs", headers=bearer(key)).status_code == 200
    auth.revoke_key(service, view.id)
    now += 1
    refusal(locked.get("/jobs", headers=bearer(key)), 401, "key-unknown")


def test_a_wrong_key_is_refused_even_where_none_is_needed(client: TestClient) -> None:
    refusal(client.get("/jobs", headers=bearer("sk_wrong")), 401)


def test_settings_may_require_a_key_on_loopback_too(make_service: Make, make_client: Make) -> None:
    refusal(make_client(make_service(auth="required")).get("/jobs"), 401)


def test_pages_of_other_sites_are_kept_out_where_no_key_is_needed(client: TestClient) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example:80", "0.0.0.0", "[::1", "", "a b"):
        refusal(client.get("/jobs", headers={"Host": host}), 403, "foreign-host")
    posted = client.post(
        "/generate", json={"prompt": "a"}, headers={"Origin": "https://evil.example"}
    )
    refusal(posted, 403, "foreign-origin")
    refusal(client.get("/jobs", headers={"Origin": "null"}), 403)
    own = client.get("/jobs", headers={"Origin": "http://127.0.0.1"})
    assert own.status_code == 200


def test_named_origins_may_call_from_a_browser(make_service: Make, make_client: Make) -> None:
    studio = "https://studio.example"
    client = make_client(make_service(cors_origins=(studio,)))
    answer = client.get("/jobs", headers={"Origin": studio})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == studio
    assert "Location" in answer.headers["access-control-expose-headers"]
    preflight = {"Origin": studio, "Access-Control-Request-Method": "POST"}
    allowed = client.options("/generate", headers=preflight)
    assert allowed.headers["access-control-allow-origin"] == studio
    other = client.options("/generate", headers={**preflight, "Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("app.localhost", True),
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("192.168.1.2", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
    ],
)
def test_loopback_is_known_when_seen(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_too_many_requests_are_told_when_to_come_back(
    make_service: Make, make_client: Make
) -> None:
    client = make_client(make_service(requests_per_minute=5))
    for _ in range(5):
        assert client.get("/jobs").status_code == 200
    answer = client.get("/jobs")
    refusal(answer, 429, "too-many-requests")
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert client.get("/healthz").status_code == 200


def test_guessing_keys_is_limited_by_address(make_service: Make, make_client: Make) -> None:
    client = make_client(make_service(requests_per_minute=3), key_required=True)
    statuses = [client.get("/jobs", headers=bearer("sk_guess")).status_code for _ in range(5)]
    assert statuses == [401, 401, 401, 429, 429]


def test_each_caller_has_a_limit_of_its_own(make_service: Make, make_client: Make) -> None:
    service = make_service(requests_per_minute=2)
    client = make_client(service, key_required=True)
    hers, _ = auth.create_key(service, label="hers")
    his, _ = auth.create_key(service, label="his")
    assert [client.get("/jobs", headers=bearer(hers)).status_code for _ in range(3)] == [
        200,
        200,
        429,
    ]
    assert client.get("/jobs", headers=bearer(his)).status_code == 200


def test_a_redis_that_is_away_does_not_stop_the_service(
    make_service: Make, make_client: Make
) -> None:
    client = make_client(make_service(queue_url="redis://127.0.0.1:1/0", requests_per_minute=2))
    statuses = [client.get("/jobs").status_code for _ in range(3)]
    assert statuses == [200, 200, 429]


def test_queued_jobs_of_one_owner_are_limited(make_service: Make, make_client: Make) -> None:
    client = make_client(make_service(max_queued_jobs_per_owner=2))
    for _ in range(2):
        assert client.post("/generate", json={"prompt": "a"}).status_code == 202
    answer = client.post("/generate", json={"prompt": "a"})
    refusal(answer, 429, "too-many-queued-jobs")
    assert int(answer.headers["retry-after"]) > 0

"""A body is read only once its caller is known; only routes that take files read large bodies."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.testclient import TestClient

from api.app import create_app
from api.dependencies import OwnerWith
from api.routes.guarded import GuardedRoute
from service import auth
from service.auth import Scope
from service.wiring import Service
from tests.unit.api.checks import refusal

Make = Callable[..., Any]
MEBIBYTE = 1024**2
FORM = "multipart/form-data; boundary=b"
BODIES = [
    ("/generate", "application/json"),
    ("/generate", FORM),
    ("/concepts", FORM),
    ("/concepts/import", FORM),
]


class Body:
    """A body that records whether it was read."""

    def __init__(self, size: int = MEBIBYTE // 2) -> None:
        self._size = size
        self.read = False

    def __iter__(self) -> Iterator[bytes]:
        self.read = True
        for _ in range(0, self._size, 65_536):
            yield b"x" * 65_536


@pytest.mark.parametrize(("path", "media_type"), BODIES)
@pytest.mark.parametrize("key", [None, "sk_wrong", "of another scope"])
def test_nothing_of_a_strangers_body_is_read(
    service: Service, make_client: Make, path: str, media_type: str, key: str | None
) -> None:
    client: TestClient = make_client(service, key_required=True)
    headers = {"Content-Type": media_type}
    if key == "of another scope":
        key, _ = auth.create_key(service, label="reader", scopes=[Scope.READ])
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    body = Body()
    seen: list[bool] = []

    async def spying(scope: Any, receive: Any, send: Any) -> None:
        async def spied() -> Any:
            seen.append(True)
            return await receive()

        await app(scope, spied, send)

    app, client.app = client.app, spying
    answer = client.post(path, content=iter(body), headers=headers)
    refusal(answer, 403 if key and "wrong" not in key else 401)
    assert seen == []


def test_every_route_that_reads_a_body_knows_its_caller_first(service: Service) -> None:
    app = create_app(service, embedded=False)
    routes = [context.original_route for context in iter_route_contexts(app.routes)]
    reading = [each for each in routes if isinstance(each, APIRoute) and each.body_field]
    assert reading
    for route in reading:
        assert isinstance(route, GuardedRoute), route.path
        calls = [dependency.call for dependency in route.dependant.dependencies]
        assert any(isinstance(call, OwnerWith) for call in calls), route.path


@pytest.mark.parametrize(
    ("media_type", "path"),
    [
        *((kind, path) for kind in (FORM, "Multipart/Form-Data; boundary=b", "text/plain")
          for path in ("/jobs/x/cancel", "/nothing")),
        *((kind, "/generate") for kind in ("text/plain", "application/json", "")),
    ],
)  # fmt: skip
def test_only_uploads_may_be_large_whatever_a_body_calls_itself(
    client: TestClient, path: str, media_type: str
) -> None:
    answer = client.post(path, content=b"x" * (MEBIBYTE + 1), headers={"Content-Type": media_type})
    refusal(answer, 413, "body-too-large")


@pytest.mark.parametrize("path", ["/concepts", "/generate"])
def test_an_upload_may_write_its_media_type_as_it_likes(client: TestClient, path: str) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\n'
    body = part + b"x" * 60_000 + b"\r\n--b--\r\n"
    shouted = {"Content-Type": "Multipart/Form-Data; boundary=b"}
    refusal(client.post(path, content=body, headers=shouted), 422)
    large = (part + b"x" * 60_000 + b"\r\n") * 20 + b"--b--\r\n"
    assert len(large) > MEBIBYTE
    refusal(client.post(path, content=large, headers=shouted), 422)


def test_an_import_may_be_as_large_as_a_concept_file_and_no_larger(client: TestClient) -> None:
    headers = {"Content-Type": FORM}
    body = b"x" * (3 * MEBIBYTE)
    refusal(client.post("/concepts/import", content=body, headers=headers), 413, "body-too-large")


def test_a_caller_is_counted_once_for_a_request(make_service: Make, make_client: Make) -> None:
    client = make_client(make_service(requests_per_minute=3))
    statuses = [client.post("/generate", json={"prompt": "a"}).status_code for _ in range(4)]
    assert statuses == [202, 202, 202, 429]

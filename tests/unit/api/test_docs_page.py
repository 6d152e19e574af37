"""The reference at /docs names every operation and loads nothing."""

from typing import Any

from starlette.testclient import TestClient


def test_the_reference_page_names_every_route_and_loads_nothing(
    client: TestClient, openapi: dict[str, Any]
) -> None:
    page = client.get("/docs")
    for path, methods in openapi["paths"].items():
        for method in methods:
            assert f"<code>{method.upper()} {path}</code>" in page.text
    for sign in ("<script", "src=", "http://", "https://", "<link", "@import"):
        assert sign not in page.text
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "style-src 'sha256-" in policy


def test_the_reference_links_to_every_operation(client: TestClient) -> None:
    page = client.get("/docs").text
    for methods in client.get("/openapi.json").json()["paths"].values():
        for operation in methods.values():
            assert f"href='#{operation['operationId']}'" in page
            assert page.count(f"id='{operation['operationId']}'") == 1

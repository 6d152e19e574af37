"""A query parameter that a route does not have is refused."""

import re
from typing import Any

from starlette.testclient import TestClient

from tests.unit.api.checks import openai_refusal, operations, pointers, refusal


def test_a_query_parameter_that_a_route_does_not_have_is_refused(
    refusing: TestClient, openapi: dict[str, Any]
) -> None:
    for name, operation in operations(openapi):
        method, path = name.split()
        url = re.sub(r"{\w+}", "0", path)
        known = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"}
        query = {"limit": "5", "colour": "red"}
        answer = refusing.request(method, url, params=query, json={"prompt": "a boat"})
        expected = set(query) - known
        if path.startswith("/v1/"):
            message = openai_refusal(answer, 422)["message"]
            assert all(f"{stranger}: " in message for stranger in expected), name
        else:
            found = {pointer.lstrip("/") for pointer in pointers(refusal(answer, 422))}
            assert found == expected, name


def test_the_pages_take_any_query(client: TestClient) -> None:
    for page in ("/", "/docs"):
        assert client.get(page, params={"from": "a-mail"}).status_code == 200

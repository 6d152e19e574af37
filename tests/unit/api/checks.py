"""The checks that every refusal passes."""

from typing import Any

from httpx2 import Response

from api.openai.errors import OpenAIError
from service.errors import Problem


def refusal(response: Response, status: int, slug: str | None = None) -> dict[str, Any]:
    """Check that an answer is a problem of this status (and slug); return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    Problem.model_validate(problem)
    assert problem["status"] == status
    assert problem["type"].startswith("/problems/")
    assert problem["request_id"] == response.headers["x-request-id"]
    assert problem["detail"].endswith((".", "!", "?")), problem["detail"]
    assert "Traceback" not in response.text
    if slug is not None:
        assert problem["type"] == f"/problems/{slug}"
    return problem


def pointers(problem: dict[str, Any]) -> set[str]:
    """Return the pointers to the wrong fields."""
    return {each["pointer"] for each in problem["errors"]}


def openai_refusal(response: Response, status: int, code: str | None = None) -> dict[str, Any]:
    """Check that an answer is an error in OpenAI's form; return its `error`."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body: dict[str, Any] = response.json()
    OpenAIError.model_validate(body)
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"].endswith((".", "!", "?")), body
    assert "Traceback" not in response.text
    if code is not None:
        assert body["error"]["code"] == code
    return dict(body["error"])


def operations(openapi: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the operations of an OpenAPI document as `get /jobs` and description."""
    return [
        (f"{method} {path}", operation)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]

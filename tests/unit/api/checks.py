"""The checks that every refusal passes."""

from typing import Any

from httpx2 import Response

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

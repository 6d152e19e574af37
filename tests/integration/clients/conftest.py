"""The embedded default on a base model that draws noise at once, for clients of other makers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.stack.deployment import Api, Deployment, ask_to_teach, wait_until

KEY = f"sk_{'k' * 43}"


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Iterator[Api]:
    """Yield a ready server that requires KEY."""
    deployment = Deployment(
        tmp_path_factory.mktemp("clients"),
        {},
        base_model=tiny_base,
        evaluator="none",
        segmenter="none",
        auth="required",
        bootstrap_key=KEY,
    )
    api = deployment.api()
    api.http.headers["Authorization"] = f"Bearer {KEY}"
    try:
        api.start()
        wait_until(api.is_ready, seconds=120)
        yield api
    finally:
        deployment.close()


@pytest.fixture(scope="session")
def rex(api: Api) -> str:
    """Teach a concept in a few steps, and return its name."""
    job = api.wait_for(ask_to_teach(api.http, "rex", steps=2))
    assert job["status"] == "succeeded", job
    return "rex"

"""The count of requests without Redis, or with a frozen one."""

import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from service.settings.environment import Settings
from service.wiring import build
from tests.integration.stack import servers
from tests.unit.api.checks import refusal
from tests.unit.api.conftest import BASE_URL, build_service

pytestmark = pytest.mark.servers
_PER_MINUTE = 8


def _within_one_minute(seconds: float) -> None:
    """Wait for the next minute if this one ends too soon, because a new minute frees requests."""
    left = 60 - time.time() % 60
    if left < seconds:
        time.sleep(left)


def test_a_redis_that_hangs_or_is_gone_neither_stops_nor_frees_a_caller(
    tmp_path: Path, migrated: Path
) -> None:
    with servers.redis() as redis:
        service = build_service(
            tmp_path / "data",
            migrated,
            queue_url=redis.url,
            requests_per_minute=_PER_MINUTE,
        )
        _within_one_minute(15)
        app = create_app(service, embedded=False)
        with TestClient(app, base_url=BASE_URL) as client:
            assert client.get("/jobs").status_code == 200
            redis.process.freeze()
            seconds = []
            for _ in range(_PER_MINUTE):
                begun = time.monotonic()
                assert client.get("/jobs").status_code == 200
                seconds.append(time.monotonic() - begun)
            # Only the first request waits for Redis; the others do not try.
            assert max(seconds) < 1.5
            assert sorted(seconds)[-2] < 0.25 + sorted(seconds)[0]
            refusal(client.get("/jobs"), 429, "too-many-requests")
            begun = time.monotonic()
            problem = refusal(client.get("/readyz"), 503, "not-ready")
            assert time.monotonic() - begun < 5
            assert "queue" in problem["detail"]
            redis.process.kill()
            refusal(client.get("/jobs"), 429, "too-many-requests")
        service.close()


def test_two_processes_share_one_count_through_redis(tmp_path: Path, migrated: Path) -> None:
    with servers.redis() as redis:
        service = build_service(
            tmp_path / "data",
            migrated,
            queue_url=redis.url,
            requests_per_minute=4,
        )
        other = build(Settings.model_validate(service.settings.model_dump()))
        _within_one_minute(10)
        apps = [create_app(each, embedded=False) for each in (service, other)]
        statuses = []
        for app in apps:
            with TestClient(app, base_url=BASE_URL) as client:
                statuses += [client.get("/jobs").status_code for _ in range(3)]
        assert statuses == [200, 200, 200, 200, 429, 429]
        service.close()
        other.close()

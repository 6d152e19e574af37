"""A service that serves one base model."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from service import deployment
from service.wiring import Service
from tests.unit.service.staging import Clock, register_base_model


@pytest.fixture
def service(make_service: Callable[..., Service], clock: Clock) -> Service:
    # Blobs carry the machine's time, so the service's clock must not lie behind it.
    clock.now = datetime.now(UTC) + timedelta(minutes=5)
    service = make_service()
    deployment.check(service)
    register_base_model(service)
    return service

"""The address by which a forwarded request is counted."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2
import pytest

from api.app import create_app
from api.cli.serve import build_server
from service.wiring import Service

_PER_MINUTE = 3


@pytest.mark.parametrize(("trusted", "refused"), [((), 2), (("127.0.0.1",), 0)])
def test_a_caller_chooses_the_address_of_wrong_keys_only_through_a_trusted_proxy(
    make_service: Callable[..., Service], trusted: tuple[str, ...], refused: int
) -> None:
    service = make_service(
        auth="required", trusted_proxies=trusted, requests_per_minute=_PER_MINUTE
    )
    with serving(service) as url:
        statuses = [
            httpx2.get(
                f"{url}/jobs",
                headers={
                    "Authorization": f"Bearer sk_{'a' * 40}",
                    "X-Forwarded-For": f"203.0.113.{number}",
                },
            ).status_code
            for number in range(_PER_MINUTE + 2)
        ]
    assert statuses.count(429) == refused
    assert statuses.count(401) == len(statuses) - refused


@contextmanager
def serving(service: Service) -> Iterator[str]:
    """Serve the application on a free port, as `perfusion serve` does; yield its URL."""
    app = create_app(service, embedded=False, key_required=True)
    server = build_server(app, service.settings)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()

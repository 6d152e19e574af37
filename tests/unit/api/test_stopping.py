"""A server that stops answers the requests that it cannot finish, as it answers every request."""

import sqlite3
import threading
import time
from contextlib import closing

import httpx2 as httpx
import uvicorn
from starlette.testclient import TestClient

from api.app import create_app
from api.limits import connections
from service.wiring import Service
from tests.unit.api.limits.test_connections import running

REQUEST = {"prompt": "a photo of <teddy>", "seed": 1}
KEY = {"Idempotency-Key": "once"}


def test_a_request_that_outlives_the_grace_of_a_stop_is_told_to_come_again(
    service: Service, teddy: str, client: TestClient
) -> None:
    answers: list[httpx.Response] = []
    app = create_app(service, embedded=False)
    config = uvicorn.Config(
        app,
        port=0,
        http=connections.protocol(descriptors=1000),
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    with closing(_locked(service)), running(uvicorn.Server(config)) as server:
        port = server.servers[0].sockets[0].getsockname()[1]

        def send() -> None:
            url = f"http://127.0.0.1:{port}/generate"
            with httpx.Client(trust_env=False, timeout=20) as http:
                answers.append(http.post(url, json=REQUEST, headers=KEY))

        sender = threading.Thread(target=send)
        sender.start()
        while not server.server_state.tasks:
            time.sleep(0.01)
        server.should_exit = True
        sender.join(15)

    (answer,) = answers
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/server-stopping")
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    # The thread that waited for the lock has committed meanwhile, or finds the answer of this one.
    assert client.post("/generate", json=REQUEST, headers=KEY).status_code == 202
    assert len(client.get("/jobs", params={"kind": "generate"}).json()["items"]) == 1


def _locked(service: Service) -> sqlite3.Connection:
    """Return a connection that holds the database's lock, for which every write waits."""
    file = service.database.engine.url.database
    assert file is not None
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection

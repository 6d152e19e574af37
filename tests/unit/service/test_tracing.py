"""Traces are exported by OTLP if an endpoint is set; otherwise OpenTelemetry is not loaded."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # starts processes

ROOT = Path(__file__).parents[3]
# Each runs in a process of its own, because OpenTelemetry's provider is global and set once.
PROGRAM = """
import sys
from service import tracing
stop = tracing.configure("perfusion-test")
from starlette.testclient import TestClient
import migrations
from api.app import create_app
from service import wiring
from service.settings.environment import Settings
settings = Settings(data_dir=sys.argv[1])
migrations.upgrade(settings.database_url)
service = wiring.build(settings)
with TestClient(create_app(service, embedded=False), base_url="http://127.0.0.1") as client:
    assert client.post("/generate", json={"prompt": "nobody may read this"}).status_code == 202
    assert client.get("/images/x?expires=1&sig=secretsignature").status_code == 401
with tracing.span("job generate", job_id="job_1"):
    pass
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
with service.database.read() as session:
    try:  # the driver's message holds the value
        session.execute(text("SELECT json_extract('{}', :path)"), {"path": "valueoferror"})
        raise SystemExit("the statement did not fail")
    except SQLAlchemyError as error:
        assert "valueoferror" in str(error.orig)
stop()
"""
# (redis-py loads the SDK by itself if it is installed.)
NOTHING_LOADED = """
assert not [name for name in sys.modules if name.startswith("opentelemetry.exporter")]
"""


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """Yield an OTLP endpoint and the requests that it receives."""
    received: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    server.server_close()


def run(program: str, folder: Path, **environment: str) -> None:
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "PERFUSION_"))}
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        cwd=ROOT,
        env={**variables, "OTEL_EXPORTER_OTLP_COMPRESSION": "none", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_requests_statements_and_jobs_are_traced_without_what_they_hold(
    collector: tuple[str, list[bytes]], tmp_path: Path
) -> None:
    endpoint, received = collector
    run(PROGRAM, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, NO_PROXY="127.0.0.1")
    sent = b"".join(received)
    for name in (b"perfusion-test", b"POST /generate", b"INSERT INTO jobs", b"job generate"):
        assert name in sent
    assert b"json_extract" in sent
    assert b"valueoferror" not in sent
    assert b"nobody may read this" not in sent
    assert b"secretsignature" not in sent


def test_without_an_endpoint_nothing_of_it_is_loaded(tmp_path: Path) -> None:
    run(PROGRAM + NOTHING_LOADED, tmp_path)

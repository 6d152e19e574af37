"""The few REST calls that the demo makes, with nothing but the standard library."""

import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable
from typing import Any

_TIMEOUT_SECONDS = 90
_POLL_SECONDS = 0.5

Part = tuple[str, str | None, bytes]
"""A part of a multipart form: its name, its file's name, its bytes."""


class Refused(Exception):
    """The server answered with a problem; the message is its detail."""


class Client:
    """Talks to one server."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, path: str) -> Any:
        """GET, as JSON."""
        return json.loads(self._send("GET", path))

    def fetch(self, path: str) -> bytes:
        """GET, as bytes."""
        return self._send("GET", path)

    def generate(self, **body: Any) -> Any:
        """POST /generate; the job."""
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        return json.loads(self._send("POST", "/generate", data=data, headers=headers))["job"]

    def create_concept(self, parts: Iterable[Part]) -> Any:
        """POST /concepts; the job."""
        boundary = uuid.uuid4().hex
        data = b"".join(_encode(part, boundary) for part in parts) + f"--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return json.loads(self._send("POST", "/concepts", data=data, headers=headers))["job"]

    def wait(self, job: Any, on_progress: Callable[[int], None]) -> Any:
        """The job once it has succeeded. Raises Refused where it has not."""
        while job["status"] in ("queued", "running"):
            time.sleep(_POLL_SECONDS)
            job = self.get(f"/jobs/{job['id']}")
            on_progress(job["progress"]["step"])
        if job["status"] != "succeeded":
            raise Refused((job["error"] or {}).get("detail", f"The job was {job['status']}."))
        return job

    def _send(
        self,
        method: str,
        path: str,
        *,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        request = urllib.request.Request(
            self._url + path, data=data, headers=headers or {}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
                answer: bytes = response.read()
                return answer
        except urllib.error.HTTPError as error:
            raise Refused(_detail(error)) from error


def _encode(part: Part, boundary: str) -> bytes:
    name, filename, data = part
    file = f'; filename="{filename}"' if filename else ""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + data + b"\r\n"


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["detail"])
    except (ValueError, KeyError):
        return f"The server answered {error.code}."

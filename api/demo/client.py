"""The few REST calls that the demo makes."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx2 as httpx

_TIMEOUT_SECONDS = 90
_POLL_SECONDS = 0.5

File = tuple[str, tuple[str, bytes]]
"""A file of a form: the name of the form's field, the file's name, and its bytes."""


class RequestRefused(Exception):
    """The server answered with a problem; the error's message is the problem's detail."""


class Client:
    """A client of one server."""

    def __init__(self, url: str) -> None:
        # The server is on this machine, so the environment's proxies do not apply.
        self._http = httpx.Client(base_url=url, timeout=_TIMEOUT_SECONDS, trust_env=False)

    def get(self, path: str) -> Any:
        """Send GET; return the answer's JSON."""
        return _accepted(self._http.get(path)).json()

    def fetch(self, path: str) -> bytes:
        """Send GET; return the answer's bytes."""
        return _accepted(self._http.get(path)).content

    def generate(self, **body: Any) -> Any:
        """Send POST /generate; return the job."""
        return _accepted(self._http.post("/generate", json=body)).json()["job"]

    def edit(self, picture: bytes, **body: Any) -> Any:
        """Send POST /generate with a picture to start from; return the job."""
        parts = {"image": ("picture.png", picture)}
        answer = self._http.post("/generate", data={"request": json.dumps(body)}, files=parts)
        return _accepted(answer).json()["job"]

    def create_concept(self, fields: Mapping[str, str], files: Sequence[File]) -> Any:
        """Send POST /concepts; return the job."""
        answer = self._http.post("/concepts", data=dict(fields), files=list(files))
        return _accepted(answer).json()["job"]

    def wait(self, job: Any, on_progress: Callable[[int], None]) -> Any:
        """Wait for a job's end and return the job; raise RequestRefused unless it has succeeded."""
        while job["status"] in ("queued", "running"):
            time.sleep(_POLL_SECONDS)
            job = self.get(f"/jobs/{job['id']}")
            on_progress(job["progress"]["step"])
        if job["status"] != "succeeded":
            raise RequestRefused(
                (job["error"] or {}).get("detail", f"The job was {job['status']}.")
            )
        return job


def _accepted(answer: httpx.Response) -> httpx.Response:
    """Return a successful answer; raise RequestRefused with the detail of any other answer."""
    if answer.is_success:
        return answer
    try:
        detail = str(answer.json()["detail"])
    except (ValueError, KeyError):
        detail = f"The server answered {answer.status_code}."
    raise RequestRefused(detail)

"""The real thing, twice: the embedded server as its own process, and a tab of a real browser."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    FilePayload,
    Page,
    Playwright,
    expect,
)

_REPOSITORY = Path(__file__).parents[2]
START_SECONDS = 150
_JOB_SECONDS = 90
_BROWSERS = ("chromium", "google-chrome", "chromium-browser", "google-chrome-stable")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# For an init script: adds up what moves without having been asked to, in `window.shifted`. Shifts
# within half a second of a press or a key are wanted, and do not count: that is the metric's
# definition. All others count, where the metric takes the worst five seconds.
WATCH_SHIFTS = """
    window.shifted = 0;
    new PerformanceObserver((list) => {
      const unasked = list.getEntries().filter((shift) => !shift.hadRecentInput);
      for (const { value } of unasked) window.shifted += value;
    }).observe({ type: "layout-shift", buffered: true });
"""


@dataclass(frozen=True)
class Photo:
    """A file to show to the page."""

    name: str
    data: bytes
    media_type: str = "image/png"

    @property
    def payload(self) -> FilePayload:
        """The file as Playwright hands it to a file picker."""
        return {"name": self.name, "mimeType": self.media_type, "buffer": self.data}


def launch(playwright: Playwright) -> Browser:
    """Start a headless Chromium or Chrome that is installed on this machine."""
    executable = os.environ.get("PERFUSION_TEST_BROWSER") or next(
        (path for name in _BROWSERS if (path := shutil.which(name))), None
    )
    if executable is None:
        raise RuntimeError(
            "The page is tested in a real browser and none was found. Install Chromium (on Debian "
            "and Ubuntu: apt-get install chromium), or set PERFUSION_TEST_BROWSER to the path of a "
            "Chromium or Chrome."
        )
    return playwright.chromium.launch(executable_path=executable, args=list(_FLAGS))


@contextmanager
def serving(
    folder: Path, *, port: str = "0", killed: bool = False, **settings: str
) -> Iterator[str]:
    """`perfusion serve` on a free port, its data in `folder`; yields its address.

    At the end it is asked to stop, or killed where it stands.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PERFUSION_")}
    # Many people's visits within a minute come from one caller here. Nothing is fetched from a hub.
    ours = {
        "PERFUSION_DATA_DIR": str(folder / "data"),
        "PERFUSION_REQUESTS_PER_MINUTE": "100000",
        "PERFUSION_SEGMENTER": "none",
    }
    environment = {**inherited, **ours, **settings}
    log = folder / "server.log"
    perfusion = [sys.executable, "-m", "api"]
    if "PERFUSION_QUEUE_URL" in settings:  # the embedded default migrates by itself
        subprocess.run([*perfusion, "migrate"], cwd=_REPOSITORY, env=environment, check=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*perfusion, "serve", "--port", port],
            cwd=_REPOSITORY,
            env=environment,
            stdout=output,
            stderr=output,
        )
        try:
            yield _address(process, log)
        finally:
            process.kill() if killed else process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"Perfusion at (http://\S+)", log.read_text("utf-8", "replace")):
            return found[1]
        time.sleep(0.1)
    raise RuntimeError(f"The server did not start:\n{log.read_text('utf-8', 'replace')[-4000:]}")


def await_ready(url: str, *, base_model: str) -> None:
    """Wait until the server at this address can work, and does so with this base model.

    One that starts with another server's data believes at first that its worker still lives.
    """
    deadline = time.monotonic() + START_SECONDS
    while not _is_ready(url, base_model):
        if time.monotonic() > deadline:
            raise RuntimeError(f"The server was not ready within {START_SECONDS} s.")
        time.sleep(0.2)


def teach(url: str, photos: Sequence[Photo], *, name: str) -> None:
    """Teach a concept over REST, in a few steps, and wait for it."""
    answer = httpx.post(
        f"{url}/concepts",
        data={
            "name": name,
            "superclass": "robot",
            "training": '{"max_train_steps": 4, "train_batch_size": 2}',
        },
        files=[("images", (photo.name, photo.data, photo.media_type)) for photo in photos],
        timeout=60,
    )
    assert answer.status_code == httpx.codes.ACCEPTED, answer.text
    job = f"{url}/jobs/{answer.json()['job']['id']}"
    deadline = time.monotonic() + _JOB_SECONDS
    while (status := httpx.get(job, timeout=10).json()["status"]) in ("queued", "running"):
        assert time.monotonic() < deadline, "the training took too long"
        time.sleep(0.2)
    assert status == "succeeded"


def _is_ready(url: str, base_model: str) -> bool:
    try:
        if httpx.get(f"{url}/readyz", timeout=10).status_code != httpx.codes.OK:
            return False
        return bool(httpx.get(f"{url}/base-model", timeout=10).json()["name"] == base_model)
    except httpx.TransportError:
        return False


class Visit:
    """A tab on the page that remembers what went wrong in it."""

    def __init__(self, context: BrowserContext) -> None:
        self.page = context.new_page()
        self.complaints: list[str] = []
        self.strangers: set[str] = set()
        self._own = ""
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._on_request(request.url))

    def open(self, url: str, *, wait: bool = True) -> Page:
        """Open the page and wait until it has read what the server knows."""
        self._own = "/".join(url.split("/")[:3])
        self.page.goto(url)
        if not wait:
            return self.page
        expect(self.page.locator("#model")).not_to_be_empty()
        return self.page

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        address = (message.location or {}).get("url", "")
        # A server that is not ready says so, and the page asks again.
        if "status of 503" in message.text and address.endswith("/readyz"):
            return
        # The contract says 404 until a training has its first preview; Chromium reports each one.
        if "status of 404" in message.text and address.endswith("/preview"):
            return
        self.complaints.append(f"{message.text} {address}")

    def _on_request(self, url: str) -> None:
        if not url.startswith((self._own, "blob:", "data:")):
            self.strangers.add(url)


Visits = Callable[..., Visit]

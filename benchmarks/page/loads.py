"""What a visit costs: time to the first paint, bytes, presses of Tab, and what moves on the way."""

import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Browser, Page, TimeoutError

from benchmarks.page.first_image import Row
from tests.e2e.running import WATCH_SHIFTS

ROOMS = ("create", "concepts", "gallery")
# 10 Mbit/s, 40 ms and a quarter of the processor: a telephone on a good day.
_NETWORK = {
    "offline": False,
    "latency": 40,
    "downloadThroughput": 10_000_000 / 8,
    "uploadThroughput": 10_000_000 / 8,
}
_PROCESSOR_DIVISOR = 4
_SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
_MOST_TABS = 30
_JOB_MS = 120_000
_QUIET_MS = 1500
_LOAD_MS = 15_000
_MOST_REPEATS = 5
_WATCH_ROOM = """
    window.roomMs = 0;
    const look = () => {
      if (document.querySelector("main h1")) window.roomMs = performance.now();
      else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
"""
_ARRIVED = "performance.getEntriesByType('resource').length"
_PAINTED = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


@dataclass
class _Load:
    painted_ms: float
    room_ms: float
    shifted: float


def measure(browser: Browser, url: str, *, loads: int) -> list[Row]:
    """Return the rows of all rooms; medians over cold loads, and the worst shift."""
    rows: list[Row] = []
    for room in ROOMS:
        timed = [_loaded(browser, f"{url}/#/{room}") for _ in range(loads)]
        for what, times in (
            ("first contentful paint", [load.painted_ms for load in timed]),
            ("the room is there", [load.room_ms for load in timed]),
        ):
            rows.append((f"{room}: {what}, ms", _median_and_range(times)))
        rows.append((f"{room}: layout shift", f"{max(load.shifted for load in timed):.3f}"))
    for size, (width, height) in _SIZES.items():
        shifted = _shift_while_images_arrive(browser, url, width=width, height=height)
        rows.append((f"layout shift while four images form and arrive, {size}", f"{shifted:.3f}"))
    return [*rows, *_bytes(browser, url), ("presses of Tab to the prompt", _tabs(browser, url))]


def _loaded(browser: Browser, address: str) -> _Load:
    """Return a load; one whose requests never leave the browser's throttle is repeated."""
    for _ in range(_MOST_REPEATS):
        try:
            return _load(browser, address)
        except TimeoutError:
            print("A load stood still in the browser's throttle and is repeated.", file=sys.stderr)
    raise SystemExit("The page did not load.")


def _load(browser: Browser, address: str) -> _Load:
    with _cold(browser) as page:
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.send("Network.emulateNetworkConditions", _NETWORK)
        session.send("Emulation.setCPUThrottlingRate", {"rate": _PROCESSOR_DIVISOR})
        page.goto(address, wait_until="commit")
        page.locator("main h1").first.wait_for(state="attached", timeout=_LOAD_MS)
        _settle(page)
        return _Load(
            painted_ms=page.evaluate(_PAINTED),
            room_ms=page.evaluate("window.roomMs"),
            shifted=page.evaluate("window.shifted"),
        )


def _shift_while_images_arrive(browser: Browser, url: str, *, width: int, height: int) -> float:
    with _cold(browser, width=width, height=height) as page:
        page.goto(url)
        page.locator("#num-images").fill("4")
        page.locator("#prompt").fill("a photo of <rex> on the beach")
        page.locator("#generate").click()
        page.locator("#stage-images .forming").first.wait_for(timeout=_JOB_MS)
        page.locator("#stage-images .forming").first.wait_for(state="detached", timeout=_JOB_MS)
        _settle(page)
        return float(page.evaluate("window.shifted"))


def _bytes(browser: Browser, url: str) -> list[Row]:
    """Count what goes over the wire for the three rooms, heads included and images left out."""
    answers: dict[str, dict[str, Any]] = {}
    sizes: dict[str, int] = {}
    with _cold(browser) as page:
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.on(
            "Network.responseReceived",
            lambda told: answers.update({told["requestId"]: told["response"]}),
        )
        session.on(
            "Network.loadingFinished",
            lambda told: sizes.update({told["requestId"]: int(told["encodedDataLength"])}),
        )
        page.goto(url)
        for room in ROOMS:
            page.goto(f"{url}/#/{room}")
            _settle(page)
    files: list[int] = []
    answered: list[int] = []
    for request, size in sizes.items():
        answer = answers[request]
        path = answer["url"].removeprefix(url).partition("#")[0]
        if not answer["mimeType"].startswith("image/"):
            (files if path == "/" or path.startswith("/web/") else answered).append(size)
    counted = (files + answered, files, answered)
    return [
        (
            "KB over the wire for the three rooms, without images: in all; files; answers",
            "; ".join(f"{sum(kind) / 1000:.0f} ({len(kind)})" for kind in counted),
        )
    ]


def _tabs(browser: Browser, url: str) -> str:
    with _cold(browser) as page:
        page.goto(url)
        prompt = page.locator("#prompt")
        prompt.wait_for()
        for presses in range(1, _MOST_TABS + 1):
            page.keyboard.press("Tab")
            if prompt.evaluate("prompt => prompt === document.activeElement"):
                return str(presses)
        return f"more than {_MOST_TABS}"


def _settle(page: Page) -> None:
    """Wait until nothing more arrives."""
    before, arrived = -1, 0
    while before != arrived:
        page.wait_for_timeout(_QUIET_MS)
        before, arrived = arrived, page.evaluate(_ARRIVED)


@contextmanager
def _cold(browser: Browser, *, width: int = 1440, height: int = 900) -> Iterator[Page]:
    """Open a tab with an empty cache that notes what moves."""
    context = browser.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    page.add_init_script(WATCH_SHIFTS)
    page.add_init_script(_WATCH_ROOM)
    yield page
    context.close()


def _median_and_range(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"

"""From an empty server to the first image of a toy: how many clicks, how many seconds."""

import time

import httpx2 as httpx
from playwright.sync_api import Browser

Row = tuple[str, str]

_JOB_MS = 900_000
_COUNT_CLICKS = """
    window.clicks = 0;
    addEventListener("click", ({ isTrusted }) => { window.clicks += isTrusted }, true);
"""


def measure(browser: Browser, url: str) -> list[Row]:
    """Teach the two toys with one press, unless the server has them; wait for both first images."""
    if httpx.get(f"{url}/concepts", timeout=30).json()["items"]:
        return []
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.add_init_script(_COUNT_CLICKS)
    page.goto(url)
    begun_s = time.perf_counter()
    page.get_by_role("button", name="Try it with two toys").click()
    images = page.locator("#stage-images img[src^='blob:']")
    images.first.wait_for(timeout=_JOB_MS)
    seconds = time.perf_counter() - begun_s
    clicks = page.evaluate("window.clicks")
    # The other parts need both toys, and an image of them together.
    page.locator("#film li[data-status=succeeded]").nth(1).wait_for(timeout=_JOB_MS)
    page.close()
    return [
        ("clicks from an empty server to the first image of a toy", str(clicks)),
        ("seconds from that click to the first image", f"{seconds:.0f}"),
    ]

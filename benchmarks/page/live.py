"""How long a live dial takes: from a move to the nearest quick image, and to the sharp one."""

import statistics
import time

from playwright.sync_api import Browser

from benchmarks.page.first_image import Row

_PROMPT = "a photo of <rex> on the beach"
_SEED = 7
_JOB_MS = 120_000
# Moves to and fro; no two in a row are nearest to the same image of the strip.
_BETAS = (0.43, 0.78, 0.52, 0.87, 0.34, 0.66, 0.41, 0.72, 0.55, 0.84, 0.31, 0.62)
# Times both in the page, up to the frame after the image is decoded.
_MOVE = """
    async (beta) => {
      const frame = document.getElementById("live-image");
      const slider = document.getElementById("strength-rex");
      const shown = () => frame.querySelector("img[src^='blob:']");
      const before = shown()?.src;
      const begun = performance.now();
      slider.value = -beta;
      slider.dispatchEvent(new Event("input", { bubbles: true }));
      const until = (isThere) => new Promise((resolve) => {
        const look = () => {
          const image = shown();
          const there = image?.complete && isThere(image);
          requestAnimationFrame(there ? () => resolve(performance.now() - begun) : look);
        };
        look();
      });
      const quick = await until((image) => image.src !== before);
      return [quick, await until(() => frame.dataset.sharp === "yes")];
    }
"""


def measure(browser: Browser, url: str, *, moves: int, steps: int) -> list[Row]:
    """Return the medians over moves of the dial, and what the first look costs.

    The sharp image has so many `steps`; no image of it is kept from before.
    """
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(url)
    page.locator("#prompt").fill(_PROMPT)
    page.locator("#seed").fill(str(_SEED))
    page.get_by_text("More settings").click()
    page.locator("#steps").fill(str(steps))
    page.locator("#model:not([hidden])").wait_for()
    begun_s = time.perf_counter()
    page.get_by_role("button", name="Live", exact=True).click()
    page.get_by_text("Quick look").wait_for(timeout=_JOB_MS)
    page.locator("#live-image img[src^='blob:']").wait_for()
    cold_s = time.perf_counter() - begun_s
    times = [page.evaluate(_MOVE, _BETAS[k % len(_BETAS)]) for k in range(moves)]
    page.get_by_role("button", name="Live", exact=True).click()
    page.close()
    quick, sharp = (sorted(of_kind) for of_kind in zip(*times, strict=True))
    return [
        ("dial: from Live to the first quick image (the strip of seven), s", f"{cold_s:.1f}"),
        (f"dial: from a move to the nearest quick image, ms, p50 of {moves}", _p50(quick, 1)),
        (
            f"dial: from a move to the sharp image of {steps} steps, s, p50 of {moves}",
            _p50(sharp, 1000),
        ),
    ]


def _p50(ordered: list[float], divisor: float) -> str:
    digits = 0 if divisor == 1 else 2
    values = (statistics.median(ordered), ordered[0], ordered[-1])
    return "{} ({} to {})".format(*(f"{value / divisor:.{digits}f}" for value in values))

"""The pictures of docs/page.md: the page as people see it, with the shipped model and its toys."""

import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Locator, Page

_DESKTOP = (1440, 900)
_PHONE = (390, 844)
_JOB_MS = 300_000
_SEED = 7
_GAP_PIXELS = 10


def write(browser: Browser, url: str, *, folder: Path) -> None:
    """Generate, enlarge, edit and sweep with the toys; save six pictures as WebP into `folder`."""
    width, height = _DESKTOP
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto(url)
    _generate(page, "a photo of <rex> on the beach", images=4)
    _save(_seen(page), folder / "page.webp")
    _enlarge(page)
    _save(_seen(page), folder / "page-image.webp")
    _edit(page)
    _save(_seen(page), folder / "page-edit.webp")
    _press(page, "Leave the edit")
    _sweep(page)
    _save(_seen(page), folder / "page-grid.webp")
    page.goto(f"{url}/#/concepts")
    page.locator("#concept-list summary:has(.pill)").first.wait_for()
    _save(_seen(page), folder / "page-concepts.webp")
    page.close()
    _save(_rooms_on_a_phone(browser, url), folder / "page-phone.webp")


def _generate(page: Page, prompt: str, *, images: int) -> None:
    page.locator("#prompt").fill(prompt)
    page.locator("#num-images").fill(str(images))
    page.locator("#seed").fill(str(_SEED))
    _press(page, "Generate")
    _until_made(page, images)


def _enlarge(page: Page) -> None:
    _press(page, "Enlarge image 2")
    _press(page, "Details")


def _edit(page: Page) -> None:
    """Paint a mask over what is above the head, and leave it unsent."""
    _press(page, "Edit this, image 2")
    box = page.locator("#mask").bounding_box()
    assert box is not None
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in _STROKE]
    page.mouse.move(*at[0])
    page.mouse.down()
    for x, y in at[1:]:
        page.mouse.move(x, y, steps=8)
    page.mouse.up()


_STROKE = ((0.28, 0.2), (0.5, 0.14), (0.72, 0.2))


def _sweep(page: Page) -> None:
    """Three strengths by two seeds."""
    page.locator("#prompt").fill("a photo of <rex> in the snow")
    _press(page, "Make a grid")
    page.locator("#axis-0").fill("0.8, 0.5, 0.3")
    _press(page, "Add rows")
    page.locator("#axis-1").fill("5, 6")
    _press(page, "Generate")
    page.get_by_role("table").locator("img[src^='blob:']").nth(5).wait_for(timeout=_JOB_MS)


def _rooms_on_a_phone(browser: Browser, url: str) -> Image.Image:
    """Return Create, Concepts and Gallery next to each other."""
    width, height = _PHONE
    rooms = []
    for room in ("create", "concepts", "gallery"):
        page = browser.new_page(viewport={"width": width, "height": height}, has_touch=True)
        page.goto(f"{url}/#/{room}")
        if room == "create":
            _generate(page, "<rex> next to <bruno> on the beach", images=4)
            page.evaluate("scrollTo(0, 0)")
        elif room == "concepts":
            page.locator("#concept-list .concept").first.scroll_into_view_if_needed()
        rooms.append(_seen(page))
        page.close()
    sheet = Image.new("RGB", (3 * width + 2 * _GAP_PIXELS, height), "white")
    for k, seen in enumerate(rooms):
        sheet.paste(seen, (k * (width + _GAP_PIXELS), 0))
    return sheet


def _press(page: Page, name: str) -> None:
    button: Locator = page.get_by_role("button", name=name, exact=True)
    button.first.click()


def _until_made(page: Page, images: int) -> None:
    page.locator("#stage-images .forming").first.wait_for(timeout=_JOB_MS)
    page.locator("#stage-images .forming").first.wait_for(state="detached", timeout=_JOB_MS)
    page.locator("#stage-images img[src^='blob:']").nth(images - 1).wait_for(timeout=_JOB_MS)


def _seen(page: Page) -> Image.Image:
    """Return what is on the screen once all pictures on it are there."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(1500)
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def _save(seen: Image.Image, file: Path) -> None:
    seen.save(file, "WEBP", quality=82, method=6)

"""A finger on the page."""

from playwright.sync_api import Locator, Page


def swipe(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw a finger over the screen, as the browser hears it from a touch screen."""
    screen = page.context.new_cdp_session(page)
    steps = 8
    for k in range(steps + 1):
        x, y = (a + (b - a) * k / steps for a, b in zip(start, end, strict=True))
        kind = "touchMove" if k else "touchStart"
        screen.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        page.wait_for_timeout(10)
    page.wait_for_timeout(
        150
    )  # a finger that rests leaves no momentum, which the next tap would only stop
    screen.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def draw(page: Page, mask: Locator, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw a finger over a mask, from and to shares of its sides."""
    box = mask.bounding_box()
    assert box is not None
    (ax, ay), (bx, by) = (
        (box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)
    )
    swipe(page, (ax, ay), (bx, by))

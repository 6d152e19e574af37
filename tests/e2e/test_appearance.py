"""How the page looks: on a phone, in light and dark."""

import re
from collections.abc import Iterable

import pytest
from actions import enter, generate, more_settings, show_photos
from playwright.sync_api import Page, expect
from running import Photo, Visits

_PHONE_WIDTH_PX = 360


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(
    server: str, taught: str, photos: list[Photo], visits: Visits, dark: bool
) -> None:
    page = visits(width=_PHONE_WIDTH_PX, height=740, dark=dark).open(server)
    show_photos(page, photos)
    page.get_by_text("Training options").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= _PHONE_WIDTH_PX
    enter(page, "Gallery")
    assert page.evaluate("document.documentElement.scrollWidth") <= _PHONE_WIDTH_PX
    enter(page, "Create")
    more_settings(page)
    page.get_by_role("combobox", name="Prompt").fill(f"<{taught}> and <{'long-' * 11}name>")
    expect(page.locator("#strength-list > li")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= _PHONE_WIDTH_PX


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_is_readable_in_light_and_dark(server: str, visits: Visits, dark: bool) -> None:
    page = visits(dark=dark).open(server)
    paper = luminance(page, "body", "backgroundColor")
    assert (paper < 0.05) is dark
    create = (
        ("#generate", "#generate"),
        (".stage-prompt", ".wall"),
        ("#settings-details summary", ".desk"),
        (".connection", ".bar"),
    )
    concepts = (
        ("h1", ".wall"),
        (".room-head p", ".wall"),
        ("#name-hint", "#teach-form"),
        ("#train", "#train"),
        ("#training-details summary", "#teach-form"),
    )
    page.get_by_role("combobox", name="Prompt").fill("a photo of a robot")
    generate(page, steps=1)
    readable(page, create)
    enter(page, "Concepts")
    readable(page, concepts)


def readable(page: Page, pairs: Iterable[tuple[str, str]]) -> None:
    """Assert that each text has a contrast of 4.5 to its ground."""
    for text, ground in pairs:
        ink = luminance(page, text, "color")
        behind = luminance(page, ground, "backgroundColor")
        contrast = (max(ink, behind) + 0.05) / (min(ink, behind) + 0.05)
        assert contrast >= 4.5, f"{text} has a contrast of {contrast:.1f}"


def luminance(page: Page, selector: str, style: str) -> float:
    """The relative luminance of a computed colour (WCAG 2.2)."""
    colour = page.locator(selector).first.evaluate(
        "(element, style) => getComputedStyle(element)[style]", style
    )
    channels = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

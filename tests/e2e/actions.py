"""What a person does on the page: shows photos, fills in, generates, turns dials."""

from typing import Any

from playwright.sync_api import Locator, Page, expect
from running import Photo

JOB_MS = 90_000


def enter(page: Page, room: str) -> None:
    """Go to a room of the page: Create, Concepts or Gallery."""
    page.get_by_role("navigation", name="Rooms").get_by_role("link", name=room).click()
    expect(page.get_by_role("heading", level=1, name=room)).to_be_attached()


def show_photos(page: Page, photos: list[Photo]) -> None:
    """Choose photos to teach, in Concepts."""
    enter(page, "Concepts")
    page.locator("#pictures").set_input_files([photo.payload for photo in photos])
    expect(page.locator("#thumbs > li")).to_have_count(len(photos))


def fill_in(page: Page, *, name: str, training: dict[str, str]) -> None:
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("What is it?").fill("robot")
    page.get_by_text("Training options").click()
    for option, value in training.items():
        page.locator(f"#training-{option}").fill(value)


def generate(page: Page, *, steps: int, images: int = 1, cells: int | None = None) -> Locator:
    """Press Generate with quick settings; the images once they are on the page."""
    more_settings(page)
    page.locator("#steps").fill(str(steps))
    page.locator("#num-images").fill(str(images))
    shown = page.locator("#stage-images img[src^='blob:']")
    # The stage may still show the last generation, which counts for nothing.
    before = shown.first.get_attribute("src") if shown.count() else ""
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(shown.first).not_to_have_attribute("src", before or "", timeout=JOB_MS)
    expect(shown).to_have_count(cells or images, timeout=JOB_MS)
    return shown


def more_settings(page: Page) -> None:
    if page.locator("#settings-details").get_attribute("open") is None:
        page.get_by_text("More settings").click()


def dial(page: Page, name: str) -> Locator:
    """The slider of a concept; its value is −β, so that it grows with the strength."""
    return page.get_by_role("slider", name=f"<{name}>")


def asked_for(page: Page) -> list[dict[str, Any]]:
    """Press Generate; the `concepts` of the request that the page sends."""
    with page.expect_request("**/generate") as sent:
        page.get_by_role("button", name="Generate", exact=True).click()
    # What was asked for is not what is looked at here.
    body = sent.value.post_data_json
    assert isinstance(body, dict)
    return list(body["concepts"])


def natural_width(image: Locator) -> int:
    expect(image).to_have_js_property("complete", True)
    return int(image.evaluate("image => image.naturalWidth"))

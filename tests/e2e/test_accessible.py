"""Every room, every view of the stage and every dialog, for people who hear or hardly see them."""

import re
from collections.abc import Iterator

import httpx2 as httpx
import pytest
from accessibility import misheard, violations
from actions import enter, show_photos
from playwright.sync_api import Page, expect
from running import Photo, Visits

pytestmark = pytest.mark.timeout(600)


def tour(page: Page, taught: str, photos: list[Photo]) -> Iterator[str]:
    """Go through everything that the page can show; yield the name of each view."""
    page.locator("#film button").nth(1).click()
    expect(page.locator("#stage-images img[src^='blob:']")).to_have_count(2)
    yield "all images, with the film strip"
    page.locator("#prompt").fill(f"a <{taught}> and <nobody>")
    expect(page.get_by_role("slider", name=f"<{taught}>")).to_be_visible()
    page.get_by_text("More settings").click()
    page.get_by_role("button", name="Make a grid").click()
    page.get_by_role("button", name="Add rows").click()
    yield "dials, settings and the fields of a grid"
    page.get_by_role("button", name="No grid").click()
    page.locator("#film button").first.click()
    expect(page.locator("#stage-images img[src^='blob:']")).to_have_count(4)
    yield "a grid of images"
    page.locator("#film button").nth(1).click()
    page.get_by_role("button", name="Enlarge image 2").click()
    yield "one image"
    page.get_by_role("button", name="Details").click()
    yield "the details of an image"
    page.get_by_role("button", name="Details").click()
    page.get_by_role("button", name="Compare, image 2").click()
    yield "two images and a slider"
    page.get_by_role("button", name="Side by side").click()
    yield "two images side by side"
    page.get_by_role("button", name="Done").click()
    page.get_by_role("button", name="Edit this, image 2").click()
    page.get_by_role("button", name="Box in the middle").click()
    page.get_by_text("Edge of the mask").click()
    yield "an edit with a mask"
    page.get_by_role("button", name="Leave the edit").click()
    page.get_by_role("button", name="Delete, image 2").click()
    yield "a question"
    page.keyboard.press("Escape")
    page.locator("#prompt").fill("")
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(page.locator("#prompt-error")).to_be_visible()
    yield "a prompt that is refused, and examples"

    show_photos(page, [photos[0], photos[0], Photo("notes.png", b"words")])
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.locator("#thumbs .error").last).to_contain_text("not a JPEG", timeout=30_000)
    card = page.locator("#concept-list > li", has_text=f"<{taught}>")
    expect(card.locator(".verdict")).to_be_visible()
    card.get_by_text("More").click()
    page.get_by_text("Training options").click()
    yield "photos, refusals, training options and concepts"
    page.get_by_role("button", name=f"Crop and mask of {photos[0].name}").first.click()
    yield "the crop and mask of a photo"
    page.keyboard.press("Escape")
    card.get_by_role("button", name="again with other options").click()
    yield "teaching again"
    page.keyboard.press("Escape")
    card.get_by_role("button", name="Rename").click()
    yield "a question with a field"
    page.keyboard.press("Escape")

    enter(page, "Gallery")
    expect(page.locator("#gallery > li").nth(5)).to_be_visible()
    page.get_by_role("button", name="Select all").click()
    page.get_by_role("button", name=re.compile("^Favourite, image 1,")).click()
    yield "the gallery"
    page.context.set_offline(offline=True)
    expect(page.locator("#banner")).to_be_visible()
    yield "a server that is away"


def test_axe_and_a_screen_reader_find_nothing_wrong_in_any_view(
    server: str, taught: str, photos: list[Photo], visits: Visits
) -> None:
    axes = [("seed", [1, 2]), ("locking", ["local", "global"])]
    sweep = {"axes": [{"field": field, "values": values} for field, values in axes]}
    for request in ({"num_images": 2, "seed": 1}, {"sweep": sweep}):
        body = {"prompt": f"a <{taught}>", "num_inference_steps": 1, **request}
        httpx.post(f"{server}/generate", json=body, headers={"Prefer": "wait=60"}, timeout=90)
    page = visits(width=1440, height=900, lenient=True).open(server)
    wrong = {}
    for view in tour(page, taught, photos):
        if found := misheard(page) + violations(page):
            wrong[view] = found
    assert wrong == {}

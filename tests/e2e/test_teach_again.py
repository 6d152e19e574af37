"""A concept taught again with one click and brought back, and what another base model means."""

import re

import httpx2 as httpx
import pytest
from accessibility import violations
from actions import enter
from playwright.sync_api import Locator, Page, expect
from running import Photo, Visits, teach

pytestmark = pytest.mark.timeout(600)
_JOB_MS = 120_000


def ended(page: Page) -> Locator:
    """The newest training on the page, once it has ended well."""
    newest = page.locator("#trainings > li").first
    expect(newest.locator(".pill[data-status]")).to_have_text("done", timeout=_JOB_MS)
    return newest


def test_a_concept_of_another_base_model_stays_listed_and_says_why_it_cannot_be_used(
    server: str, moved: str, taught: str, visits: Visits
) -> None:
    for url in (server, moved):
        page = visits().open(url)
        enter(page, "Concepts")
        card = page.locator("#concept-list > li", has_text=f"<{taught}>")
        use = card.get_by_role("button", name=f"Use <{taught}> in a prompt")
        strength = page.locator("#strength-list > li")
        file = card.get_by_role("button", name=f"Download the file of <{taught}>")
        expect(file).to_be_visible()
        if url != server:
            expect(card.locator(".pill", has_text="not usable here")).to_be_visible()
            expect(card).to_contain_text("taught on another base model (tiny, ")
        expect(use).to_have_count(1 if url == server else 0)
        enter(page, "Create")
        page.get_by_role("combobox", name="Prompt").fill(f"a <{taught}>")
        if url == server:
            expect(strength.get_by_role("slider")).to_be_visible()
        else:
            expect(strength).to_contain_text("Train it again here")
            expect(strength.get_by_role("slider")).to_have_count(0)


def test_a_concept_is_taught_again_with_one_click_and_brought_back_with_another(
    moved: str, photos: list[Photo], visits: Visits
) -> None:
    teach(moved, photos[:1], name="rex")
    visit = visits()
    page = visit.open(moved)
    enter(page, "Concepts")
    card = page.locator("#concept-list > li", has_text="<rex>")
    again = card.get_by_role("button", name="Teach again <rex>", exact=True)
    before = card.get_by_role("button", name="Go back to the <rex> before")
    expect(before).to_have_count(0)
    again.click()
    # What it was before still serves, and a second training at once is not offered.
    expect(card.locator(".pill").first).to_have_text("training again")
    expect(card.get_by_role("button", name="Use <rex> in a prompt")).to_be_visible()
    expect(again).to_have_count(0)
    ended(page)
    expect(before).to_be_visible()
    first = httpx.get(f"{moved}/concepts/rex", timeout=10).json()
    before.click()
    expect(page.locator("#concepts-status")).to_have_text("rex is what it was before.")
    second = httpx.get(f"{moved}/concepts/rex", timeout=10).json()
    assert (first["revision"], second["revision"]) == (2, 3)
    assert first["sha256"] != second["sha256"]
    assert visit.complaints == []


def test_a_concept_of_another_base_model_is_usable_again_after_one_click(
    moved: str, visits: Visits
) -> None:
    page = visits(width=390, height=844).open(moved)
    enter(page, "Concepts")
    card = page.locator("#concept-list > li", has_text="<glass-cat>")
    expect(card.locator(".pill", has_text="not usable here")).to_be_visible()
    again = card.get_by_role("button", name="Teach again <glass-cat>", exact=True)
    expect(again).to_have_class(re.compile("primary"))
    again.click()
    ended(page)
    expect(card.get_by_role("button", name="Use <glass-cat> in a prompt")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_word_that_the_base_model_was_not_trained_on_is_told_as_it_is_typed(
    moved: str, visits: Visits
) -> None:
    page = visits(lenient=True).open(moved)
    enter(page, "Concepts")
    word = page.get_by_label("What is it?")
    word.press_sequentially("badger")
    told = page.locator("#word-finding").get_by_role("status")
    expect(told).to_contain_text("This base model was not trained to draw 'badger'.")
    near = page.get_by_role("group", name="Nearest in spelling")
    expect(near.get_by_role("button")).to_have_text(["burger", "bear"])
    page.get_by_text("It knows 3 words").click()
    expect(page.get_by_role("button", name="robot", exact=True)).to_be_visible()
    assert violations(page) == []
    near.get_by_role("button", name="bear").click()
    expect(word).to_have_value("bear")
    expect(word).to_be_focused()
    expect(told).to_be_hidden()

"""The three rooms: reachable, readable by everyone, and there again after the server was away."""

import json
import re
from pathlib import Path

import httpx2 as httpx
import pytest
from actions import JOB_MS, enter, fill_in, generate, show_photos
from playwright.sync_api import Page, expect
from running import WATCH_SHIFTS, Photo, Visits, await_ready, serving

from tests.integration.stack.tiny_base import write_tiny_base

_SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
_ROOMS = ("create", "concepts", "gallery")
_MOST_BYTES = 400_000
_MOST_TABS = 6
_MOST_SHIFT = 0.05


@pytest.mark.parametrize("size", _SIZES)
def test_prompt_and_button_are_in_reach_without_scrolling(
    server: str, taught: str, visits: Visits, size: str
) -> None:
    width, height = _SIZES[size]
    page = visits(width=width, height=height).open(server)
    page.locator("#prompt").fill(f"a photo of <{taught}>")
    expect(page.get_by_role("slider", name=f"<{taught}>")).to_be_visible()
    for control in ("#prompt", "#generate"):
        box = page.locator(control).bounding_box()
        assert box is not None
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= height
    page.mouse.wheel(0, 4000)
    expect(page.locator("#connection")).to_be_in_viewport()
    expect(page.locator("#connection")).to_have_text(re.compile("Ready"))
    generate(page, steps=1)
    expect(page.locator("#stage-prompt")).to_be_in_viewport()


@pytest.mark.parametrize("size", _SIZES)
def test_hardly_anything_moves_while_rooms_load_and_images_arrive(
    server: str, taught: str, visits: Visits, size: str
) -> None:
    width, height = _SIZES[size]
    visit = visits(width=width, height=height)
    visit.page.add_init_script(WATCH_SHIFTS)
    for room in ("concepts", "gallery", "create"):
        page = visit.open(f"{server}/#/{room}")
        page.reload()  # another hash alone loads nothing
        page.wait_for_timeout(700)
        assert page.evaluate("window.shifted") <= _MOST_SHIFT
    page.locator("#prompt").fill(f"a <{taught}>")
    generate(page, steps=20, images=4)
    page.wait_for_timeout(300)
    assert page.evaluate("window.shifted") <= _MOST_SHIFT


def test_few_presses_of_tab_lead_to_the_prompt(server: str, visits: Visits) -> None:
    page = visits().open(server)
    for _ in range(_MOST_TABS):
        page.keyboard.press("Tab")
        if page.locator("#prompt").evaluate("prompt => prompt === document.activeElement"):
            return
    pytest.fail(f"{_MOST_TABS} presses of Tab do not lead to the prompt")


def test_all_rooms_together_are_small_and_nothing_is_asked_for_twice(
    server: str, taught: str, visits: Visits
) -> None:
    visit = visits()
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url))
    sizes: dict[str, int] = {}
    visit.page.on(
        "response",
        lambda answer: sizes.update({answer.url: int(answer.headers.get("content-length", 0))}),
    )
    page = visit.open(server)
    for room in ("Concepts", "Gallery", "Create"):
        enter(page, room)
        page.wait_for_timeout(300)
    twice = {url for url in asked if asked.count(url) > 1}
    assert twice <= {f"{server}/web/icon.svg"}  # in the page and on its tab
    code = {url: size for url, size in sizes.items() if re.search(r"\.(js|css)$|/$", url)}
    assert len(code) > 60
    assert sum(code.values()) <= _MOST_BYTES


def test_rooms_have_addresses_and_the_prompt_outlives_a_reload(server: str, visits: Visits) -> None:
    page = visits().open(f"{server}/#/gallery")
    expect(page.get_by_role("heading", level=1)).to_have_text("Gallery")
    enter(page, "Create")
    assert page.url.endswith("#/create")
    page.locator("#prompt").fill("a red car")
    page.locator("#seed").fill("5")
    page.reload()
    expect(page.locator("#prompt")).to_have_value("a red car")
    expect(page.locator("#seed")).to_have_value("5")


def test_one_click_on_an_empty_server_leads_to_the_first_image_of_a_toy(
    tmp_path: Path, visits: Visits
) -> None:
    base = write_tiny_base(tmp_path / "tiny")
    train = {"max_train_steps": 6, "train_batch_size": 1}
    (base / "perfusion.json").write_text(f'{{"train": {str(train).replace(chr(39), chr(34))}}}')
    settings = {"PERFUSION_BASE_MODEL": str(base), "PERFUSION_EVALUATOR": "none"}
    with serving(tmp_path, **settings) as url:
        await_ready(url, base_model="tiny")
        visit = visits()
        page = visit.open(url)
        page.get_by_role("button", name="Try it with two toys").click()
        expect(page.locator("#stage-images img[src^='blob:']")).to_have_count(4, timeout=JOB_MS)
        expect(page.locator("#film button")).to_have_count(2, timeout=JOB_MS)
        names = {each["name"] for each in httpx.get(f"{url}/concepts").json()["items"]}
        assert names == {"rex", "bruno"}
        assert visit.complaints == []


@pytest.mark.timeout(600)
def test_every_room_says_that_the_server_was_killed_and_goes_on_when_it_is_back(
    tmp_path: Path, photos: list[Photo], visits: Visits
) -> None:
    base = write_tiny_base(tmp_path / "tiny")
    train = {"max_train_steps": 6, "train_batch_size": 1}
    (base / "perfusion.json").write_text(json.dumps({"train": train}))
    settings = {"PERFUSION_BASE_MODEL": str(base), "PERFUSION_EVALUATOR": "none"}
    with serving(tmp_path, killed=True, **settings) as url:
        await_ready(url, base_model="tiny")
        create, concepts, gallery = (visits().open(f"{url}/#/{room}") for room in _ROOMS)
        create.locator("#prompt").fill("a red car")
        generate(create, steps=2)
        show_photos(concepts, photos[:1])
        fill_in(concepts, name="afterwards", training={})
        images = gallery.locator("#gallery > li")
        gallery.reload()
        expect(images).to_have_count(1)
        gallery.get_by_role("button", name="Select all").click()
    rooms = (create, concepts, gallery)
    # Each says what could not be done; the state stays in sight in every one.
    create.get_by_role("button", name="Generate", exact=True).click()
    expect(create.locator("#create-alert")).to_contain_text("cannot be reached")
    concepts.get_by_role("button", name="Train", exact=True).click()
    expect(concepts.locator("#teach-alert")).to_contain_text("cannot be reached")
    delete_selected(gallery)
    expect(gallery.locator("#notice")).to_contain_text("cannot be reached")
    for page in rooms:
        expect(page.locator("#banner")).to_contain_text("cannot be reached")
        expect(page.locator("#connection")).to_have_text(re.compile("No connection"))
    expect(images).to_have_count(1)

    port = url.rsplit(":", 1)[1].strip("/")
    with serving(tmp_path, port=port, **settings) as again:
        await_ready(again, base_model="tiny")
        for page in rooms:
            expect(page.locator("#banner")).to_be_hidden(timeout=JOB_MS)
        expect(create.locator("#prompt")).to_have_value("a red car")
        generate(create, steps=2)
        expect(concepts.locator("#thumbs > li")).to_have_count(1)
        concepts.get_by_role("button", name="Train", exact=True).click()
        use = concepts.locator("#trainings").get_by_role("button", name="Use <afterwards>")
        use.wait_for(timeout=JOB_MS)
        expect(gallery.get_by_role("group", name="Selection")).to_contain_text("1 image selected")
        delete_selected(gallery)
        expect(gallery.get_by_role("checkbox", checked=True)).to_have_count(0)


def delete_selected(gallery: Page) -> None:
    selection = gallery.get_by_role("group", name="Selection")
    selection.get_by_role("button", name="Delete").click()
    gallery.get_by_role("dialog").get_by_role("button", name="Delete").click()

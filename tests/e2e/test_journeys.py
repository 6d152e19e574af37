"""Journeys without a mouse or with more than one tab: fingers, keys, no connection."""

import io
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx2 as httpx
import pytest
from actions import JOB_MS, dial, enter, fill_in, generate, show_photos
from keyboard import focus_is_seen, tab_to, type_into
from PIL import Image
from playwright.sync_api import Locator, Route, expect
from running import Photo, Visit, Visits, await_ready, serving, teach
from touch import draw, swipe

from tests.integration.stack.tiny_base import write_tiny_base

_PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `quick` has its data."""
    return tmp_path_factory.mktemp("quick")


@pytest.fixture(scope="module")
def quick(folder: Path, photos: list[Photo]) -> Iterator[str]:
    """The address of a server with the concept pip, which trains quickly and judges nothing."""
    base = write_tiny_base(folder / "tiny")
    train = {"max_train_steps": 6, "train_batch_size": 1}
    (base / "perfusion.json").write_text(json.dumps({"train": train}))
    settings = {"PERFUSION_BASE_MODEL": str(base), "PERFUSION_EVALUATOR": "none"}
    with serving(folder, **settings) as url:
        await_ready(url, base_model="tiny")
        teach(url, photos[:1], name="pip")
        yield url


def prompts(url: str) -> list[str]:
    """Return the prompts of all generations, newest first."""
    jobs = httpx.get(f"{url}/jobs?kind=generate&limit=100", timeout=10).json()["items"]
    return [job["request"]["prompt"] for job in jobs]


def test_a_tab_shows_what_another_tab_changes_and_keeps_its_own_draft(
    quick: str, photos: list[Photo], visits: Visits
) -> None:
    visit = visits()
    page = visit.open(quick)
    other_visit = Visit(page.context)
    other = other_visit.open(quick)
    page.locator("#prompt").fill("a red car")
    other.locator("#prompt").fill("a blue boat")

    # A job that starts here, and its image.
    film = other.locator("#film > li")
    before = film.count()
    generate(page, steps=2)
    expect(film).to_have_count(before + 1)
    expect(film.first.get_by_role("button", name=re.compile("a red car"))).to_be_visible()
    enter(other, "Gallery")
    images = other.locator("#gallery > li")
    shown = images.filter(has_text="a red car")
    expect(shown).to_have_count(1)
    page.locator("#prompt").fill("a red car at night")
    generate(page, steps=2)
    expect(images.filter(has_text="a red car at night")).to_have_count(1, timeout=JOB_MS)

    # An image that is deleted here; a favourite of there stays one.
    shown.last.get_by_role("button", name=re.compile("^Favourite")).click()
    page.get_by_role("button", name="Favourite, image 1").click()
    expect(other.locator("#gallery .star[aria-pressed='true']")).to_have_count(2)
    page.get_by_role("button", name="Delete, image 1").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(images.filter(has_text="a red car at night")).to_have_count(0)

    # A concept that is taught here, and deleted there.
    enter(other, "Concepts")
    show_photos(page, photos[:1])
    # Long enough to be seen in the other tab while it runs.
    fill_in(page, name="two-tabs", training={"max_train_steps": "150"})
    page.get_by_role("button", name="Train", exact=True).click()
    expect(other.locator("#trainings > li", has_text="<two-tabs>")).to_be_visible()
    use = "Use <two-tabs> in a prompt"
    expect(other.get_by_role("button", name=use)).to_be_visible(timeout=JOB_MS)
    expect(page.get_by_role("button", name=use)).to_be_visible(timeout=JOB_MS)
    other.get_by_role("button", name="Delete <two-tabs>").click()
    other.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("button", name=use)).to_have_count(0)

    for tab, prompt in ((page, "a red car at night"), (other, "a blue boat")):
        enter(tab, "Create")
        expect(tab.locator("#prompt")).to_have_value(prompt)
        tab.reload()
        expect(tab.locator("#prompt")).to_have_value(prompt)
    assert visit.complaints == other_visit.complaints == []


def test_fingers_draw_boxes_and_paint_and_the_page_does_not_scroll_meanwhile(
    quick: str, visits: Visits
) -> None:
    red = (200, 40, 40)
    file = io.BytesIO()
    Image.new("RGB", (200, 120), red).save(file, "PNG")
    page = visits(**_PHONE, touch=True).open(quick, wait=False)
    page.locator("#edit-file").set_input_files(
        {"name": "wall.png", "mimeType": "image/png", "buffer": file.getvalue()}
    )
    mask = page.locator("#mask")
    shape = mask.bounding_box()
    assert shape is not None
    assert shape["width"] / shape["height"] == pytest.approx(200 / 120, rel=0.02)
    page.get_by_role("button", name="Box", exact=True).tap()
    scrolled = page.evaluate("scrollY")
    draw(page, mask, (0.1, 0.9), (0.4, 0.1))
    expect(mask).to_have_attribute("aria-label", re.compile("1 stroke[.]"))
    page.get_by_role("button", name="Brush", exact=True).tap()
    draw(page, mask, (0.7, 0.8), (0.7, 0.2))
    expect(mask).to_have_attribute("aria-label", re.compile("2 strokes[.]"))
    assert page.evaluate("scrollY") == scrolled
    # The same finger scrolls everywhere else.
    swipe(page, (200, 640), (200, 300))
    assert page.evaluate("scrollY") > scrolled
    expect(mask).to_have_attribute("aria-label", re.compile("2 strokes[.]"))

    page.locator("#prompt").fill("a green wall")
    page.get_by_role("button", name="Generate", exact=True).tap()
    expect(page.locator("#compare figcaption")).to_have_text(["Before", "After"], timeout=JOB_MS)
    newest = httpx.get(f"{quick}/images?limit=1", timeout=10).json()["items"][0]
    bytes_made = httpx.get(f"{quick}{newest['url']}", timeout=10).content
    made = Image.open(io.BytesIO(bytes_made)).convert("RGB")
    assert made.size == (200, 120)
    assert [made.getpixel(at) for at in ((5, 5), (110, 60), (190, 60))] == [red] * 3
    assert made.getpixel((50, 60)) != red
    assert made.getpixel((140, 60)) != red


def test_a_crop_and_a_painted_mask_arrive_at_the_server(
    quick: str, folder: Path, photos: list[Photo], visits: Visits
) -> None:
    visit = visits()
    page = visit.open(quick)
    show_photos(page, photos[:2])
    opener = page.get_by_role("button", name=f"Crop and mask of {photos[0].name}")
    opener.click()
    page.get_by_label("Size", exact=True).fill("50")
    page.get_by_role("slider", name="Across").fill("100")
    page.get_by_role("slider", name="Down").fill("0")
    box = page.locator("#photo-mask").bounding_box()
    assert box is not None
    left, middle, right = (box["x"] + share * box["width"] for share in (0.2, 0.6, 0.75))
    quarter = box["y"] + 0.25 * box["height"]
    page.mouse.move(middle, quarter)
    page.mouse.down()
    page.mouse.move(right, quarter, steps=4)
    page.mouse.up()
    page.mouse.click(left, quarter)
    page.keyboard.press("Escape")  # what was painted stays
    expect(page.locator("#thumbs > li").first).to_contain_text("own mask")
    expect(opener).to_be_focused()
    # The mask is there to be painted on, and so is the crop.
    opener.click()
    expect(page.locator("#photo-mask")).to_have_attribute("aria-label", re.compile("1 stroke[.]"))
    expect(page.get_by_label("Size", exact=True)).to_have_value("50")
    page.get_by_role("button", name="Eraser").click()
    page.mouse.click(right, quarter)
    page.get_by_role("button", name="Done").click()

    fill_in(page, name="cropped", training={})
    page.get_by_role("button", name="Train", exact=True).click()
    training = page.locator("#trainings > li", has_text="<cropped>")
    training.get_by_role("button", name="Use <cropped>").wait_for(timeout=JOB_MS)
    pictures = httpx.get(f"{quick}/concepts/cropped/pictures", timeout=10).json()["items"]
    painted = httpx.get(f"{quick}{pictures[0]['mask_url']}", timeout=10).content
    mask = Image.open(io.BytesIO(painted)).convert("L")
    width, height = Image.open(io.BytesIO(photos[0].data)).size
    assert mask.size == (width, height)
    at = [mask.getpixel((int(share * width), height // 4)) for share in (0.2, 0.6, 0.75, 0.9)]
    assert at == [255, 255, 0, 0]
    with closing(sqlite3.connect(folder / "data" / "perfusion.db")) as database:
        rows = database.execute(
            "SELECT crop FROM pictures JOIN concepts ON concepts.id = concept_id "
            "WHERE name = 'cropped' ORDER BY position"
        )
        crops = [crop and json.loads(crop) for (crop,) in rows]
    side = min(width, height) // 2
    assert crops == [[width - side, 0, side, side], None]
    assert visit.complaints == []


def test_without_a_connection_nothing_is_lost_and_nothing_is_sent_twice(
    quick: str, visits: Visits
) -> None:
    visit = visits(**_PHONE)
    page = visit.open(quick, wait=False)
    prompt = "<pip> on a quiet sea"
    page.locator("#prompt").fill(prompt)
    page.locator("#seed").fill("4")
    page.get_by_role("button", name="Live", exact=True).click()
    dial(page, "pip").fill("-0.6")
    live = page.locator("#live-image")
    expect(live).to_have_attribute("data-sharp", "yes", timeout=JOB_MS)
    page.context.set_offline(offline=True)
    banner, connection = page.locator("#banner"), page.locator("#connection")
    for _ in range(2):
        expect(banner).to_contain_text("cannot be reached")
        expect(banner).to_be_in_viewport(ratio=1)
        expect(connection).to_have_text(re.compile("No connection"))
        page.mouse.wheel(0, 4000)
    dial(page, "pip").fill("-0.4")
    expect(page.locator("#notice")).to_contain_text("cannot be reached")
    expect(live).to_have_attribute("aria-busy", "false")
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(page.locator("#create-alert")).to_contain_text("cannot be reached")
    expect(page.locator("#prompt")).to_have_value(prompt)
    sent = prompts(quick)
    page.context.set_offline(offline=False)
    expect(banner).to_be_hidden()
    expect(connection).to_have_text(re.compile("Ready"))
    assert prompts(quick) == sent

    # The server hears the request, and its answers are lost on the way.
    def lose(route: Route) -> None:
        route.fetch()
        route.abort()

    generated = page.get_by_role("button", name="Generate", exact=True)
    page.locator("#prompt").fill("a boat that is asked for once")
    page.route("**/generate", lose)
    generated.click()
    expect(page.locator("#create-alert")).to_contain_text("cannot be reached")
    page.unroute("**/generate")
    generated.click()
    expect(page.locator("#stage-images img[src^='blob:']")).to_have_count(1, timeout=JOB_MS)
    assert prompts(quick).count("a boat that is asked for once") == 1
    assert [each for each in visit.complaints if "net::ERR_" not in each] == []


def test_everything_is_done_with_the_keyboard_and_the_focus_is_never_lost(
    quick: str, photos: list[Photo], visits: Visits
) -> None:
    body = {"prompt": "a wall that stays", "num_inference_steps": 1}
    httpx.post(f"{quick}/generate", json=body, headers={"Prefer": "wait=60"}, timeout=90)
    visit = visits()
    page = visit.open(quick)
    press = page.keyboard.press

    def button(name: str) -> Locator:
        return page.get_by_role("button", name=name)

    # Teach.
    tab_to(page, page.get_by_role("link", name="Concepts"))
    press("Enter")
    tab_to(page, page.locator("#pictures"))
    page.locator("#pictures").set_input_files([photo.payload for photo in photos[:2]])
    tab_to(page, button(f"Remove {photos[1].name}"))
    press("Enter")
    expect(page.locator("#thumbs > li")).to_have_count(1)
    focus_is_seen(page)
    tab_to(page, button(f"Crop and mask of {photos[0].name}"), back=True)
    press("Enter")
    tab_to(page, button("Box in the middle"))
    press("Enter")
    expect(page.locator("#photo-mask")).to_be_focused()
    press("ArrowRight")
    press("Escape")
    expect(button(f"Crop and mask of {photos[0].name}")).to_be_focused()
    type_into(page, page.get_by_label("Name", exact=True), "key")
    type_into(page, page.get_by_label("What is it?"), "robot")
    press("Enter")
    use = page.locator("#trainings").get_by_role("button", name="Use <key>")
    use.wait_for(timeout=JOB_MS)
    tab_to(page, use)
    press("Enter")

    # Create, and move the dial.
    expect(page.locator("#prompt")).to_be_focused()
    page.keyboard.type("on the beach")
    type_into(page, page.locator("#seed"), "3")
    tab_to(page, page.get_by_text("More settings"))
    press("Enter")
    type_into(page, page.get_by_label("Steps", exact=True), "2")
    for _ in range(2):
        tab_to(page, page.locator("#generate"), back=True)
        made = page.locator("#film > li").count()
        press("Enter")
        expect(page.locator("#film > li")).to_have_count(made + 1)
        focus_is_seen(page)
        expect(page.locator("#stage-images img[src^='blob:']")).to_have_count(1, timeout=JOB_MS)
        tab_to(page, dial(page, "key"))
        press("ArrowRight")
    expect(dial(page, "key")).to_have_value("-0.68")

    # Compare.
    tab_to(page, button("Compare, image 1"))
    press("Enter")
    # The same seed at another strength: that is what tells them apart.
    line = r"Dividing line: Seed 3, strength 0[.]\d+ left, Seed 3, strength 0[.]\d+ right"
    split = page.get_by_role("slider", name=re.compile(line))
    expect(split).to_be_focused()
    press("ArrowRight")
    expect(split).to_have_value("51")
    tab_to(page, button("Done"))
    press("Enter")
    expect(page.locator("#compare")).to_have_count(0)
    focus_is_seen(page, inside="#stage")
    tab_to(page, button("Next image"), back=True)
    press("Enter")
    focus_is_seen(page, inside="#stage")

    # Select and delete in the gallery.
    tab_to(page, page.get_by_role("link", name="Gallery"), back=True)
    press("Enter")
    images = page.locator("#gallery > li")
    newest = images.filter(has_text="<key>")
    expect(newest).to_have_count(2)
    count = images.count()
    for k in range(2):
        tab_to(page, newest.nth(k).get_by_role("checkbox"))
        press("Space")
    selection = page.get_by_role("group", name="Selection")
    tab_to(page, selection.get_by_role("button", name="Delete"), back=True)
    press("Enter")
    expect(page.get_by_role("dialog").get_by_role("button", name="Keep")).to_be_focused()
    press("Tab")
    press("Enter")
    expect(images).to_have_count(count - 2)
    focus_is_seen(page, inside=".selection")
    tab_to(page, images.first.get_by_role("button", name=re.compile("^Open")))
    press("Enter")
    expect(page.locator("#stage")).to_be_focused()

    # Delete the concept.
    tab_to(page, page.get_by_role("link", name="Concepts"), back=True)
    press("Enter")
    tab_to(page, button("Delete <key>"))
    press("Enter")
    press("Escape")
    expect(button("Delete <key>")).to_be_focused()
    press("Enter")
    expect(page.get_by_role("dialog").get_by_role("button", name="Keep")).to_be_focused()
    press("Tab")
    press("Enter")
    card = page.locator("#concept-list > li", has_text="<key>")
    expect(card).to_have_count(0, timeout=JOB_MS)
    focus_is_seen(page, inside="#concept-list")
    assert visit.complaints == []

"""Create and Gallery: live dials, grids, comparisons, edits, and what becomes of images."""

import io
import re
import zipfile
from pathlib import Path

import httpx2 as httpx
from actions import JOB_MS, dial, enter, generate, more_settings, natural_width
from PIL import Image
from playwright.sync_api import Page, expect
from running import Visits


def ask(server: str, **body: object) -> str:
    """Generate over REST in one step; return the id of the first image."""
    answer = httpx.post(
        f"{server}/generate",
        json={"num_inference_steps": 1, **body},
        headers={"Prefer": "wait=60"},
        timeout=90,
    )
    assert answer.status_code == httpx.codes.OK, answer.text
    return str(answer.json()["job"]["images"][0]["id"])


def test_a_live_dial_shows_the_same_image_at_another_strength_and_then_sharp(
    server: str, taught: str, visits: Visits
) -> None:
    ask(server, prompt=f"<{taught}> on blue", seed=3)
    page = visits().open(server)
    page.locator("#prompt").fill(f"<{taught}> on blue")
    page.locator("#seed").fill("3")
    before = len(httpx.get(f"{server}/jobs?kind=generate&limit=100").json()["items"])
    page.get_by_role("button", name="Live", exact=True).click()
    shown = page.locator("#live-image img[src^='blob:']")
    dial(page, taught).fill("-0.4")
    expect(page.locator("#live-image")).to_have_attribute("data-sharp", "yes", timeout=JOB_MS)
    assert natural_width(shown) > 0
    first = shown.get_attribute("src")
    dial(page, taught).fill("-0.9")
    expect(shown).not_to_have_attribute("src", first or "", timeout=1000)
    expect(page.locator("#live-image")).to_have_attribute("data-sharp", "yes", timeout=JOB_MS)
    page.get_by_role("button", name="Live", exact=True).click()
    # The strip was a means to an end; the two sharp images stay.
    jobs = f"{server}/jobs?kind=generate&limit=100"
    page.wait_for_timeout(500)
    assert len(httpx.get(jobs).json()["items"]) == before + 2


def test_a_grid_has_labels_a_zoom_and_a_sheet(server: str, taught: str, visits: Visits) -> None:
    visit = visits()
    page = visit.open(server)
    page.locator("#prompt").fill(f"<{taught}> on red")
    page.get_by_role("button", name="Make a grid").click()
    page.locator("#axis-0").fill("0.8, 0.4")
    page.get_by_role("button", name="Add rows").click()
    page.locator("#axis-1").fill("1, 2")
    images = generate(page, steps=1, images=1, cells=4)
    assert natural_width(images.last) > 0
    grid = page.get_by_role("table")
    expect(grid.get_by_role("columnheader")).to_have_text(["β 0.80", "β 0.40"])
    expect(grid.get_by_role("rowheader")).to_have_text(["Seed 1", "Seed 2"])
    width = images.first.bounding_box()
    page.get_by_label("Zoom").fill("200")
    wider = images.first.bounding_box()
    assert width is not None
    assert wider is not None
    assert wider["width"] > 1.5 * width["width"]
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the sheet").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")
    assert visit.complaints == []


def test_every_image_of_a_batch_and_of_a_grid_is_seen_while_it_forms(
    server: str, visits: Visits
) -> None:
    visit = visits()
    page = visit.open(server)
    more_settings(page)
    page.locator("#prompt").fill("a red car")
    page.locator("#steps").fill("200")
    page.locator("#num-images").fill("12")
    forming = page.locator("#stage-images img[src^='data:image/jpeg']")
    button = page.get_by_role("button", name="Generate", exact=True)
    cancel = page.get_by_role("button", name="Cancel", exact=True)
    for images in (12, 20):
        button.click()
        # Of a grid the first 16 cells are sampled at once.
        expect(forming).to_have_count(min(images, 16), timeout=JOB_MS)
        shown = forming.evaluate_all("images => images.map((image) => image.src)")
        assert len(set(shown)) == len(shown)
        expect(page.get_by_alt_text("Image 2 as it forms")).to_be_visible()
        cancel.click()
        expect(cancel).to_have_count(0, timeout=JOB_MS)
        if images == 12:
            page.get_by_role("button", name="Make a grid").click()
            page.locator("#axis-0").fill("1, 2, 3, 4, 5")
            page.get_by_role("button", name="Add rows").click()
            page.locator("#axis-1-field").select_option("guidance_scale")
            page.locator("#axis-1").fill("2, 3, 4, 5")
    assert visit.complaints == []


def test_two_images_are_compared_with_a_slider_or_side_by_side(server: str, visits: Visits) -> None:
    for seed in (1, 2):
        ask(server, prompt="a red car", seed=seed)
    page = visits().open(server)
    page.get_by_role("button", name="Compare, image 1").click()
    compare = page.locator("#compare")
    expect(compare.locator("figcaption")).to_have_text(["Seed 2", "Seed 1"])
    page.get_by_role("slider", name=re.compile("Dividing line")).fill("20")
    assert "20%" in (compare.get_attribute("style") or "")
    page.get_by_role("button", name="Side by side").click()
    first, second = (box.bounding_box() for box in compare.locator("figure").all())
    assert first is not None
    assert second is not None
    assert first["x"] + first["width"] <= second["x"] + 1
    page.get_by_role("button", name="Done").click()
    page.get_by_role("button", name="Next image").click()
    expect(page.locator("#stage-images img")).to_have_attribute("alt", re.compile("seed 1"))


def test_a_painted_mask_changes_nothing_outside_it(server: str, visits: Visits) -> None:
    photo = Image.new("RGB", (200, 120), (200, 40, 40))
    file = io.BytesIO()
    photo.save(file, "PNG")
    visit = visits()
    page = visit.open(server)
    page.locator("#edit-file").set_input_files(
        {"name": "wall.png", "mimeType": "image/png", "buffer": file.getvalue()}
    )
    mask = page.locator("#mask")
    box = mask.bounding_box()
    assert box is not None
    for x in (0.2, 0.25, 0.7):  # one stroke, then a second one that is taken back
        page.mouse.move(box["x"] + x * box["width"], box["y"] + 0.3 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + (x + 0.05) * box["width"], box["y"] + 0.5 * box["height"])
        page.mouse.up()
    expect(mask).to_have_attribute("aria-label", re.compile("3 strokes"))
    page.get_by_role("button", name="Undo").click()
    expect(mask).to_have_attribute("aria-label", re.compile("2 strokes"))
    expect(page.get_by_label("How much changes")).to_have_attribute("aria-valuetext", "100 %")
    page.locator("#prompt").fill("a green car")
    page.get_by_text("More settings").click()
    page.locator("#steps").fill("2")
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(page.locator("#compare figcaption")).to_have_text(["Before", "After"], timeout=JOB_MS)
    newest = httpx.get(f"{server}/images?limit=1").json()["items"][0]
    assert newest["request"]["edit"]["mask"] == "upload"
    made = Image.open(io.BytesIO(httpx.get(f"{server}{newest['url']}").content)).convert("RGB")
    assert made.size == photo.size
    assert made.getpixel((190, 110)) == (200, 40, 40)
    assert made.getpixel((160, 50)) == (200, 40, 40)  # the stroke that was taken back
    assert made.getpixel((45, 48)) != (200, 40, 40)
    assert visit.complaints == []


def test_the_gallery_finds_restores_zips_and_deletes(
    server: str, taught: str, visits: Visits
) -> None:
    ask(server, prompt=f"<{taught}> in a purple wood", seed=11, gates="published", num_images=2)
    visit = visits()
    page = visit.open(server)
    enter(page, "Gallery")
    page.get_by_role("searchbox").fill("purple wood")
    items = page.locator("#gallery > li")
    expect(items).to_have_count(2)
    # Dropped on Create, an image brings its settings back, the gates' rule too.
    name = re.compile("Open .*seed 11")
    items.get_by_role("button", name=name).drag_to(
        page.get_by_role("link", name="Create", exact=True)
    )
    expect(page.locator("#prompt")).to_have_value(f"<{taught}> in a purple wood")
    expect(page.locator("#seed")).to_have_value("11")
    page.get_by_text("More settings").click()
    expect(page.get_by_label("Gates")).to_have_value("published")
    enter(page, "Gallery")
    expect(items).to_have_count(2)
    page.get_by_role("button", name="Select all").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as zip").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        names = sorted(archive.namelist())
        assert names == [f"{taught}-seed-11.png", f"{taught}-seed-12.png"]
        assert archive.testzip() is None
        assert archive.read(names[0]).startswith(b"\x89PNG")
    page.get_by_role("group", name="Selection").get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(items).to_have_count(0)
    assert httpx.get(f"{server}/images?q=purple+wood").json()["items"] == []
    assert visit.complaints == []


def test_a_file_from_this_computer_brings_its_settings_back(server: str, visits: Visits) -> None:
    image = ask(server, prompt="a red car at dusk", seed=21)
    page = visits().open(server)
    drop(page, httpx.get(f"{server}/images/{image}").content)
    expect(page.locator("#prompt")).to_have_value("a red car at dusk")
    expect(page.locator("#seed")).to_have_value("21")
    expect(page.locator("#steps")).to_have_value("1")


def drop(page: Page, data: bytes) -> None:
    """Drop a PNG on the stage."""
    page.locator("#stage").evaluate(
        """(target, bytes) => {
          const files = new DataTransfer();
          files.items.add(new File([new Uint8Array(bytes)], "image.png", { type: "image/png" }));
          const how = { dataTransfer: files, bubbles: true, cancelable: true };
          target.dispatchEvent(new DragEvent("drop", how));
        }""",
        list(data),
    )

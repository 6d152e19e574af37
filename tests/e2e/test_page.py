"""The page, used as a person uses it: real server, real browser, nothing pretended."""

import re
from pathlib import Path

from actions import (
    JOB_MS,
    dial,
    enter,
    fill_in,
    generate,
    more_settings,
    natural_width,
    show_photos,
)
from playwright.sync_api import expect
from running import Photo, Visits, serving

_SHORT_TRAINING = {"max_train_steps": "12", "train_batch_size": "2"}


def test_photos_become_a_concept_and_the_concept_an_image(
    server: str, photos: list[Photo], mask: Photo, visits: Visits
) -> None:
    visit = visits()
    page = visit.open(server)
    show_photos(page, photos)
    expect(page.locator("#thumbs > li").last).to_contain_text("mask from transparency")
    page.get_by_label("Add a mask for robot-0.png").set_input_files(mask.payload)
    expect(page.locator("#thumbs > li").first).to_contain_text("own mask")
    expect(page.locator("#masks-note")).to_be_visible()
    fill_in(page, name="My Robot!", training=_SHORT_TRAINING)
    expect(page.locator("#name-hint")).to_contain_text("It will be called my-robot")

    page.get_by_role("button", name="Train", exact=True).click()
    training = page.locator("#trainings > li", has_text="<my-robot>")
    expect(training.get_by_role("progressbar")).to_be_visible()
    use = training.get_by_role("button", name="Use <my-robot>")
    use.wait_for(timeout=JOB_MS)
    card = page.locator("#concept-list > li", has_text="<my-robot>")
    expect(card).to_contain_text("your own masks")

    use.click()
    expect(page.locator("#prompt")).to_have_value("a photo of <my-robot> ")
    page.keyboard.type("on the beach")
    page.locator("#seed").fill("41")
    dial(page, "my-robot").fill("-0.6")
    images = generate(page, steps=4, images=2)
    assert natural_width(images.first) > 0
    assert natural_width(images.last) > 0
    expect(page.locator("#stage-images")).to_contain_text("Seed 41")
    expect(page.locator("#stage-images")).to_contain_text("Seed 42")
    page.get_by_role("button", name="Enlarge image 2").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download, image 2").click()
    assert download.value.suggested_filename == "my-robot-seed-42.png"
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")

    # What was made outlives the tab, and the image itself tells how it was made.
    page.reload()
    expect(page.locator("#prompt")).to_have_value("a photo of <my-robot> on the beach")
    page.locator("#prompt").fill("")
    recent = page.locator("#film button").first
    expect(recent).to_have_attribute("aria-label", re.compile("a photo of <my-robot> on the beach"))
    page.get_by_role("button", name="Enlarge image 2").click()
    page.get_by_role("button", name="Use these settings, image 2").click()
    expect(page.locator("#prompt")).to_have_value("a photo of <my-robot> on the beach")
    expect(page.locator("#seed")).to_have_value("42")
    expect(dial(page, "my-robot")).to_have_value("-0.6")

    assert visit.complaints == []
    assert visit.strangers == set(), "the page asks nobody but its own server"


def test_a_refused_photo_is_told_beside_it_in_words(
    server: str, photos: list[Photo], visits: Visits
) -> None:
    page = visits().open(server)
    show_photos(page, [photos[0], Photo(name="notes.png", data=b"these are words, not pixels")])
    refused = page.locator("#thumbs > li").nth(1)
    # It is named at once, and training all the same does not wipe what was said.
    expect(refused.locator(".error")).to_contain_text("not a JPEG, PNG, WebP or HEIC picture")
    fill_in(page, name="wordy", training=_SHORT_TRAINING)
    page.get_by_role("button", name="Train", exact=True).click()
    expect(refused).to_have_class(re.compile("bad"))
    expect(refused.locator(".error")).to_contain_text("notes.png: ")
    expect(page.locator("#thumbs > li").first.locator(".error")).to_be_hidden()
    # Nothing typed is lost, and the way on is one key away.
    expect(page.get_by_label("Name", exact=True)).to_have_value("wordy")
    expect(page.get_by_role("button", name="Remove notes.png")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#thumbs > li")).to_have_count(1)
    expect(page.locator("#trainings > li", has_text="wordy")).to_have_count(0)


def test_what_is_missing_is_said_before_anything_is_sent(server: str, visits: Visits) -> None:
    page = visits().open(server)
    enter(page, "Concepts")
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.locator("#pictures-error")).to_have_text("Add at least one photo.")
    expect(page.locator("#name-error")).to_have_text("Give the concept a name.")
    expect(page.locator("#superclass-error")).to_have_text("Say what kind of thing it is.")
    expect(page.locator("#pictures")).to_be_focused()


def test_a_word_that_the_vocabulary_cuts_up_is_told_by_the_check_of_the_photos(
    server: str, photos: list[Photo], visits: Visits
) -> None:
    page = visits().open(server)
    show_photos(page, photos[:1])
    page.get_by_label("What is it?").fill("axolotl")
    page.keyboard.press("Tab")
    told = page.locator("#word-finding").get_by_role("status")
    expect(told).to_contain_text("'axolotl' is made of 6 pieces", timeout=JOB_MS)
    page.get_by_label("What is it?").fill("robot")
    expect(told).to_be_hidden()


def test_photos_can_be_dropped_and_pasted(server: str, photos: list[Photo], visits: Visits) -> None:
    page = visits().open(server)
    enter(page, "Concepts")
    give = """(target, [bytes, kind]) => {
      const files = new DataTransfer();
      files.items.add(new File([new Uint8Array(bytes)], `${kind}.png`, { type: "image/png" }));
      const event = kind === "drop"
        ? new DragEvent(kind, { dataTransfer: files, bubbles: true, cancelable: true })
        : new ClipboardEvent(kind, { clipboardData: files, bubbles: true });
      target.dispatchEvent(event);
    }"""
    for kind in ("drop", "paste"):
        page.locator("#drop").evaluate(give, [list(photos[0].data), kind])
    thumbs = page.locator("#thumbs img")
    expect(thumbs).to_have_count(2)
    assert natural_width(thumbs.last) > 0
    expect(page.locator("#pictures-status")).to_have_text("2 photos chosen")


def test_a_training_survives_a_reload_and_can_be_cancelled(
    server: str, photos: list[Photo], visits: Visits
) -> None:
    page = visits().open(server)
    show_photos(page, photos[:1])
    fill_in(page, name="never-mind", training={"max_train_steps": "5000"})
    page.get_by_role("button", name="Train", exact=True).click()
    training = page.locator("#trainings > li", has_text="<never-mind>")
    training.get_by_role("button", name="Cancel").wait_for()
    page.reload()
    # What is wrong with its photos is told while the training can still be cancelled.
    expect(training.locator(".warnings")).to_contain_text("surroundings", timeout=JOB_MS)
    training.get_by_role("button", name="Cancel").click()
    expect(training.locator(".pill")).to_have_text("cancelled", timeout=JOB_MS)
    card = page.locator("#concept-list > li", has_text="<never-mind>")
    expect(card).to_contain_text("cancelled")

    card.get_by_role("button", name="Delete <never-mind>").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(card).to_have_count(0)


def test_placeholders_complete_from_the_keyboard(server: str, taught: str, visits: Visits) -> None:
    page = visits().open(server)
    expect(page.get_by_role("button", name=f"Put <{taught}> into the prompt")).to_be_visible()
    prompt = page.get_by_role("combobox", name="Prompt")
    options = page.locator("#completions").get_by_role("option")
    prompt.focus()
    page.keyboard.type("a photo of <ti")
    expect(prompt).to_have_attribute("aria-expanded", "true")
    expect(options).to_have_count(1)
    expect(options).to_contain_text(f"<{taught}>")
    chosen = options.get_attribute("id") or ""
    expect(prompt).to_have_attribute("aria-activedescendant", chosen)

    page.keyboard.press("Escape")
    expect(prompt).to_have_attribute("aria-expanded", "false")
    expect(options).to_have_count(0)
    page.keyboard.type("n")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("option", selected=True).and_(options)).to_have_count(1)
    page.keyboard.press("Enter")
    expect(prompt).to_have_value(f"a photo of <{taught}>")
    expect(prompt).to_be_focused()

    # The concept brings its dial, which answers to the keyboard too.
    slider = dial(page, taught)
    more_settings(page)
    page.get_by_label("Locking").select_option("global")
    expect(slider).to_have_value("-0.5")
    slider.press("ArrowLeft")
    expect(slider).to_have_value("-0.51")
    expect(slider).to_have_attribute("aria-valuetext", "β 0.51, strong")
    slider.press("ArrowRight")
    slider.press("ArrowUp")
    expect(slider).to_have_value("-0.49")
    slider.press("End")
    expect(slider).to_have_attribute("aria-valuetext", "β 0.30, very strong")


def test_the_enlarged_image_shows_where_each_word_acted(server: str, visits: Visits) -> None:
    visit = visits()
    page = visit.open(server)
    page.locator("#prompt").fill("a red car")
    more_settings(page)
    page.get_by_label("Show where each word acts").check()
    generate(page, steps=2)
    shown = page.locator("#stage-images img")
    plain = shown.get_attribute("src")
    page.get_by_role("button", name="Details").click()
    car = page.get_by_role("button", name=re.compile("^car \\d+ %$"))
    car.click()
    expect(car).to_have_attribute("aria-pressed", "true")
    expect(shown).not_to_have_attribute("src", plain or "")
    assert natural_width(shown) > 0
    car.click()
    page.locator("#stage-prompt").hover()
    expect(shown).to_have_attribute("src", plain or "")
    assert visit.complaints == []


def test_an_unknown_placeholder_is_refused_beside_the_prompt(
    server: str, taught: str, visits: Visits
) -> None:
    page = visits().open(server)
    page.get_by_role("combobox", name="Prompt").fill("a photo of <tin-owls>")
    expect(page.locator("#strength-list")).to_contain_text("is not a concept of yours")
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(page.locator("#prompt-error")).to_contain_text(taught)
    expect(page.locator("#prompt")).to_have_attribute("aria-invalid", "true")


def test_progress_is_polled_where_no_stream_comes_through(
    server: str, taught: str, visits: Visits
) -> None:
    page = visits().open(server)
    page.route("**/events", lambda route: route.abort())
    page.get_by_role("combobox", name="Prompt").fill(f"<{taught}> on red")
    images = generate(page, steps=2)
    assert natural_width(images.first) > 0


def test_a_number_out_of_bounds_is_told_beside_its_field(server: str, visits: Visits) -> None:
    page = visits().open(server)
    page.get_by_role("combobox", name="Prompt").fill("a robot")
    page.locator("#num-images").fill("99")
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(page.locator("#num-images-error")).to_have_text("It must be 1 to 16.")
    expect(page.locator("#num-images")).to_be_focused()


def test_a_key_is_asked_for_and_what_is_not_ready_is_named(tmp_path: Path, visits: Visits) -> None:
    key = f"sk_{'k' * 43}"
    # A queue where nobody listens: the API alone, without a worker.
    settings = {
        "PERFUSION_AUTH": "required",
        "PERFUSION_BOOTSTRAP_KEY": key,
        "PERFUSION_QUEUE_URL": "redis://127.0.0.1:1/0",
    }
    with serving(tmp_path, **settings) as url:
        page = visits().open(url, wait=False)
        expect(page.locator("#banner")).to_contain_text("worker")
        field = page.get_by_label("API key", exact=True)
        expect(field).to_be_focused()
        field.fill("sk_wrong")
        field.press("Enter")
        expect(page.locator("#api-key-error")).to_have_text("The server does not accept this key.")
        field.fill(key)
        field.press("Enter")
        expect(page.locator("#stage-blank")).to_be_visible()
        expect(field).to_be_hidden()
        page.reload()
        expect(page.locator("#stage-blank")).to_be_visible()
        assert page.evaluate("Object.keys(localStorage)") == []
        page.get_by_role("button", name="Forget API key").click()
        expect(field).to_be_visible()

"""The page, used as a person uses it: real server, real browser, nothing pretended."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from playwright.sync_api import Locator, Page, expect
from running import Photo, Visits, serving

from perfusion_core.concept import Concept
from perfusion_core.strength import beta_from_strength, strength_from_beta

_JOB_MS = 90_000
_SHORT_TRAINING = {"max_train_steps": "12", "train_batch_size": "2"}
_PHONE_WIDTH_PX = 360


def show_photos(page: Page, photos: list[Photo]) -> None:
    page.locator("#pictures").set_input_files([photo.payload for photo in photos])
    expect(page.locator("#thumbs > li")).to_have_count(len(photos))


def fill_in(page: Page, *, name: str, training: dict[str, str]) -> None:
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("What is it?").fill("robot")
    page.get_by_text("Training options").click()
    for option, value in training.items():
        page.locator(f"#training-{option}").fill(value)


def generate(page: Page, *, steps: int, images: int = 1) -> Locator:
    """Press Generate with quick settings; the images once they are on the page."""
    details = page.locator("#settings-details")
    if details.get_attribute("open") is None:
        page.get_by_text("More settings").click()
    page.locator("#steps").fill(str(steps))
    page.locator("#num-images").fill(str(images))
    shown = page.locator("#stage-images img[src^='blob:']")
    # The stage may still show the last generation, which counts for nothing.
    before = shown.first.get_attribute("src") if shown.count() else ""
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(shown.first).not_to_have_attribute("src", before or "", timeout=_JOB_MS)
    expect(shown).to_have_count(images, timeout=_JOB_MS)
    return shown


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
    page.get_by_role("button", name="Use my-robot").click()
    expect(page.locator("#name-hint")).to_contain_text("<my-robot>")

    page.get_by_role("button", name="Train", exact=True).click()
    training = page.locator("#trainings > li", has_text="<my-robot>")
    expect(training.get_by_role("progressbar")).to_be_visible()
    use = training.get_by_role("button", name="Use <my-robot>")
    use.wait_for(timeout=_JOB_MS)
    expect(page.locator("#gallery > li", has_text="<my-robot>")).to_contain_text("your own masks")

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
    with page.expect_download() as download:
        page.get_by_role("button", name="Download, image 2").click()
    assert download.value.suggested_filename == "my-robot-seed-42.png"
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")

    # What was made outlives the tab, and the image itself tells how it was made.
    page.reload()
    recent = page.locator("#film > li").first
    expect(recent).to_contain_text("a photo of <my-robot> on the beach")
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
    fill_in(page, name="wordy", training=_SHORT_TRAINING)
    page.get_by_role("button", name="Train", exact=True).click()

    refused = page.locator("#thumbs > li").nth(1)
    expect(refused).to_have_class(re.compile("bad"))
    expect(refused.locator(".error")).to_contain_text(re.compile("JPEG, PNG (or|and) WebP"))
    expect(page.locator("#thumbs > li").first.locator(".error")).to_be_hidden()
    # Nothing typed is lost, and the way on is one key away.
    expect(page.get_by_label("Name", exact=True)).to_have_value("wordy")
    expect(page.get_by_role("button", name="Remove notes.png")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#thumbs > li")).to_have_count(1)
    expect(page.locator("#trainings > li", has_text="wordy")).to_have_count(0)


def test_what_is_missing_is_said_before_anything_is_sent(server: str, visits: Visits) -> None:
    page = visits().open(server)
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.locator("#pictures-error")).to_have_text("Add at least one photo.")
    expect(page.locator("#name-error")).to_have_text("Give the concept a name.")
    expect(page.locator("#superclass-error")).to_have_text("Say what kind of thing it is.")
    expect(page.locator("#pictures")).to_be_focused()


def test_photos_can_be_dropped_and_pasted(server: str, photos: list[Photo], visits: Visits) -> None:
    page = visits().open(server)
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
    training.get_by_role("button", name="Cancel").click()
    expect(training.locator(".pill")).to_have_text("cancelled", timeout=_JOB_MS)
    card = page.locator("#gallery > li", has_text="<never-mind>")
    expect(card).to_contain_text("cancelled")

    card.get_by_role("button", name="Delete <never-mind>").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(card).to_have_count(0)


def test_placeholders_complete_from_the_keyboard(server: str, taught: str, visits: Visits) -> None:
    page = visits().open(server)
    expect(page.locator("#gallery > li", has_text=taught)).to_be_visible()
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
    page.get_by_text("More settings").click()
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


def test_a_dial_that_nobody_moved_sends_nothing_and_rests_at_what_is_recommended(
    server: str, taught: str, visits: Visits
) -> None:
    page = visits().open(server)
    concept = page.evaluate(f"fetch('concepts/{taught}').then((answer) => answer.json())")
    page.get_by_role("combobox", name="Prompt").fill(f"<{taught}> on red")
    recommended = round(beta_from_strength(concept["recommended_strength"]), 2)
    slider = dial(page, taught)
    expect(slider).to_have_value(f"{-recommended:g}")
    expect(slider).to_have_attribute("aria-valuetext", re.compile("recommended$"))
    assert asked_for(page) == []
    slider.fill("-0.45")
    assert asked_for(page) == [{"name": taught, "beta": 0.45}]


def test_a_number_in_the_prompt_moves_the_dial_and_stays_until_the_dial_moves(
    server: str, taught: str, visits: Visits
) -> None:
    page = visits().open(server)
    prompt, slider = page.get_by_role("combobox", name="Prompt"), dial(page, taught)
    prompt.fill(f"a photo of <{taught}:0.88>")
    expect(slider).to_have_value("-0.7")
    assert asked_for(page) == []
    # Fainter than the dial goes: it rests at its end, and the number is left alone.
    prompt.fill(f"a photo of <{taught}:0.6>")
    expect(slider).to_have_value("-0.9")
    expect(slider).to_have_attribute("aria-valuetext", "β 0.94, fainter than the dial")
    slider.press("ArrowLeft")
    expect(prompt).to_have_value(f"a photo of <{taught}:0.6>")
    assert asked_for(page) == []
    slider.press("ArrowRight")
    expect(slider).to_have_value("-0.89")
    strength = round(strength_from_beta(0.89), 4)
    expect(prompt).to_have_value(f"a photo of <{taught}:{strength}>")
    assert asked_for(page) == [{"name": taught, "beta": 0.89}]
    # What is typed last counts.
    prompt.fill(f"a photo of <{taught}:0.97>")
    expect(slider).to_have_value("-0.48")
    assert asked_for(page) == []


def test_the_settings_of_an_image_keep_its_gate_exactly(
    server: str, taught: str, visits: Visits
) -> None:
    gate = {"beta": 0.43219, "tau": 0.11}
    body = {
        "prompt": f"<{taught}:0.6> on red",
        "concepts": [{"name": taught, **gate}],
        "num_inference_steps": 1,
    }
    answer = httpx.post(f"{server}/generate", json=body, headers={"Prefer": "wait=60"}, timeout=90)
    assert answer.status_code == httpx.codes.OK, answer.text
    page = visits().open(server)
    page.get_by_role("button", name="Use these settings, image 1").click()
    expect(dial(page, taught)).to_have_value("-0.43")
    expect(page.locator("#strength-list")).to_contain_text("β 0.43, τ 0.11")
    expect(page.locator("#prompt")).to_have_value(f"<{taught}:0.6> on red")
    assert asked_for(page) == [{"name": taught, **gate}]
    dial(page, taught).press("ArrowRight")
    assert asked_for(page) == [{"name": taught, "beta": 0.42}]


def test_the_enlarged_image_shows_where_each_word_acted(server: str, visits: Visits) -> None:
    visit = visits()
    page = visit.open(server)
    page.locator("#prompt").fill("a red car")
    page.get_by_text("More settings").click()
    page.get_by_label("Show where each word acts").check()
    generate(page, steps=2)
    page.get_by_role("button", name="Enlarge image 1").click()
    shown = page.locator("#viewer-image[src^='blob:']")
    expect(shown).to_be_visible()
    plain = shown.get_attribute("src")
    car = page.get_by_role("button", name=re.compile("^car \\d+ %$"))
    car.click()
    expect(car).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#viewer-image")).not_to_have_attribute("src", plain or "")
    assert natural_width(shown) > 0
    car.click()
    page.locator("#viewer-prompt").hover()
    expect(page.locator("#viewer-image")).to_have_attribute("src", plain or "")
    assert visit.complaints == []


def test_the_curve_under_a_slider_shows_every_strength_and_the_best_one(
    server: str, taught: str, visits: Visits
) -> None:
    page = visits().open(server)
    concept = page.evaluate(f"fetch('concepts/{taught}').then((answer) => answer.json())")
    verdict = page.locator("#gallery > li", has_text=taught).locator(".verdict")
    expect(verdict).to_contain_text(concept["verdict"]["reasons"][0])
    page.get_by_role("combobox", name="Prompt").fill(f"<{taught}:0.5> on the beach")
    points = page.get_by_role("group", name=f"Images of <{taught}>").get_by_role("button")
    expect(points).to_have_count(7)
    assert natural_width(points.first.locator("img")) > 0

    best = page.get_by_role("button", name=re.compile(r"^β [\d.]+, [\w ]+, recommended;"))
    expect(best).to_have_attribute("aria-pressed", "false")
    best.focus()
    page.keyboard.press("Enter")
    strength = concept["recommended_strength"]
    expect(dial(page, taught)).to_have_value(f"{-round(beta_from_strength(strength), 2):g}")
    expect(best).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#prompt")).to_have_value(f"<{taught}:{strength:g}> on the beach")


def test_every_point_of_an_old_files_curve_can_be_chosen_also_beyond_the_dial(
    server: str, taught: str, visits: Visits
) -> None:
    concept = Concept.from_bytes(httpx.get(f"{server}/concepts/{taught}/file").content)
    found = concept.evaluation
    assert found is not None and found.curve is not None
    strengths = (0.4, 0.6, 0.75, 0.88, 0.97)
    kept = zip(strengths, found.curve.points, strict=False)
    curve = replace(found.curve, points=tuple(replace(p, strength=s) for s, p in kept))
    old = replace(concept, evaluation=replace(found, curve=curve, thumbnails=found.thumbnails[:5]))
    answer = httpx.post(
        f"{server}/concepts/import",
        data={"name": "old-owl"},
        files={"file": ("old.safetensors", old.to_bytes())},
        timeout=30,
    )
    assert answer.status_code == httpx.codes.CREATED, answer.text

    page = visits().open(server)
    page.get_by_role("combobox", name="Prompt").fill("<old-owl> on red")
    points = page.get_by_role("group", name="Images of <old-owl>").get_by_role("button")
    expect(points).to_have_count(5)
    for k, strength in enumerate(strengths):
        beta = beta_from_strength(strength)
        points.nth(k).click()
        expect(points.nth(k)).to_have_attribute("aria-pressed", "true")
        expect(points.nth(k)).to_contain_text(f"{beta:.2f}")
        (sent,) = asked_for(page)
        assert sent == {"name": "old-owl", "beta": pytest.approx(beta, abs=1e-12)}
        expect(dial(page, "old-owl")).to_have_value(f"{-min(0.9, round(beta, 2)):g}")


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


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(
    server: str, taught: str, photos: list[Photo], visits: Visits, dark: bool
) -> None:
    page = visits(width=_PHONE_WIDTH_PX, height=740, dark=dark).open(server)
    show_photos(page, photos)
    for disclosure in ("Training options", "More settings"):
        page.get_by_text(disclosure).click()
    page.get_by_role("combobox", name="Prompt").fill(f"<{taught}> and <{'long-' * 11}name>")
    expect(page.locator("#strength-list > li")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= _PHONE_WIDTH_PX


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_is_readable_in_light_and_dark(server: str, visits: Visits, dark: bool) -> None:
    page = visits(dark=dark).open(server)
    paper = luminance(page, "body", "backgroundColor")
    assert (paper < 0.05) is dark
    for text, ground in (
        ("h1", "body"),
        (".hero p", "body"),
        ("#name-hint", "#teach-form"),
        ("#train", "#train"),
        ("#training-details summary", "#teach-form"),
    ):
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
        expect(page.locator("#gallery-empty")).to_be_visible()
        expect(field).to_be_hidden()
        page.reload()
        expect(page.locator("#gallery-empty")).to_be_visible()
        assert page.evaluate("Object.keys(localStorage)") == []
        page.get_by_role("button", name="Forget API key").click()
        expect(field).to_be_visible()

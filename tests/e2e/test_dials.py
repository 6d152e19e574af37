"""A concept's strength on the page: its dial, its number in the prompt, its curve."""

import re
from dataclasses import replace

import httpx2 as httpx
import pytest
from actions import JOB_MS, asked_for, dial, enter, natural_width
from playwright.sync_api import expect
from running import Visits

from perfusion_core.concept import Concept
from perfusion_core.strength import beta_from_strength, strength_from_beta


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
    expect(slider).to_have_attribute("aria-valuetext", "β 0.94, outside the dial")
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


def test_the_curve_under_a_slider_shows_every_strength_and_the_best_one(
    server: str, taught: str, visits: Visits
) -> None:
    page = visits().open(server)
    concept = page.evaluate(f"fetch('concepts/{taught}').then((answer) => answer.json())")
    enter(page, "Concepts")
    verdict = page.locator("#concept-list > li", has_text=taught).locator(".verdict")
    expect(verdict).to_contain_text(concept["verdict"]["reasons"][0])
    enter(page, "Create")
    page.get_by_role("combobox", name="Prompt").fill(f"<{taught}:0.5> on the beach")
    points = page.get_by_role("group", name=f"Images of <{taught}>").get_by_role("button")
    expect(points).to_have_count(7)
    assert natural_width(points.first.locator("img")) > 0

    best = page.get_by_role(
        "button", name=re.compile(r"^Strength [\d.]+, β [\d.]+, [\w ]+, recommended;")
    )
    expect(best).to_have_attribute("aria-pressed", "false")
    best.focus()
    page.keyboard.press("Enter")
    strength = concept["recommended_strength"]
    expect(dial(page, taught)).to_have_value(f"{-round(beta_from_strength(strength), 2):g}")
    expect(best).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#prompt")).to_have_value(f"<{taught}:{strength:g}> on the beach")


def test_a_file_of_a_sibling_is_imported_after_a_question_and_measured_here(
    server: str, taught: str, visits: Visits
) -> None:
    concept = Concept.from_bytes(httpx.get(f"{server}/concepts/{taught}/file").content)
    sibling = replace(concept, name="far-owl", base_model_fingerprint="0" * 32)
    page = visits().open(server)
    enter(page, "Concepts")
    file = {"name": "far-owl.safetensors", "mimeType": "", "buffer": sibling.to_bytes()}
    for answer in ("Cancel", "Import anyway"):
        page.locator("#import-file").set_input_files([file])  # type: ignore[list-item]
        expect(page.get_by_role("dialog")).to_contain_text("same text encoders")
        page.get_by_role("button", name=answer).click()
    card = page.locator("#concept-list > li", has_text="far-owl")
    expect(card).to_have_count(1)
    expect(card).to_contain_text("It was trained on another base model or covariance")
    expect(page.locator("#concepts-status")).to_have_text(
        "far-owl was measured here.", timeout=JOB_MS
    )
    expect(card.locator(".verdict")).to_have_count(1)
    expect(card).to_contain_text("Its likeness was measured on this one.")


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
        expect(points.nth(k)).to_have_attribute("aria-label", re.compile(f"β {beta:.2f},"))
        (sent,) = asked_for(page)
        assert sent == {"name": "old-owl", "beta": pytest.approx(beta, abs=1e-12)}
        expect(dial(page, "old-owl")).to_have_value(f"{-min(0.9, round(beta, 2)):g}")

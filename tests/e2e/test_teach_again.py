"""A concept taught again with one click, and brought back with another."""

import json
import re
from pathlib import Path

import httpx2 as httpx
import pytest
from playwright.sync_api import Locator, Page, expect
from running import Photo, Visits, await_ready, serving, teach

from tests.integration.stack.tiny_base import write_tiny_base

pytestmark = pytest.mark.timeout(600)
_JOB_MS = 120_000


def quick_base(folder: Path, *, seed: int) -> Path:
    """A tiny base model whose own defaults, which one click takes, are quick."""
    base = write_tiny_base(folder, seed=seed)
    train = {"max_train_steps": 10, "train_batch_size": 1}
    (base / "perfusion.json").write_text(json.dumps({"train": train}))
    return base


def ended(page: Page) -> Locator:
    """The newest training on the page, once it has ended well."""
    newest = page.locator("#trainings > li").first
    expect(newest.locator(".pill")).to_have_text("done", timeout=_JOB_MS)
    return newest


def test_a_concept_is_taught_again_with_one_click_and_brought_back_with_another(
    tmp_path: Path, photos: list[Photo], visits: Visits
) -> None:
    base = quick_base(tmp_path / "base-1", seed=1)
    settings = {"PERFUSION_BASE_MODEL": str(base), "PERFUSION_EVALUATOR": "none"}
    with serving(tmp_path, **settings) as url:
        await_ready(url)
        teach(url, photos[:1], name="rex")
        visit = visits()
        page = visit.open(url)
        card = page.locator("#gallery > li", has_text="<rex>")
        again = card.get_by_role("button", name="Teach again <rex>")
        before = card.get_by_role("button", name="Go back to the <rex> before")
        expect(before).to_have_count(0)
        again.click()
        # What it was before still serves, and a second training at once is not offered.
        expect(card.locator(".pill").first).to_have_text("training again")
        expect(card.get_by_role("button", name="Use <rex> in a prompt")).to_be_visible()
        expect(again).to_have_count(0)
        ended(page)
        expect(before).to_be_visible()
        first = httpx.get(f"{url}/concepts/rex", timeout=10).json()
        before.click()
        expect(page.locator("#concepts-status")).to_have_text("rex is what it was before.")
        second = httpx.get(f"{url}/concepts/rex", timeout=10).json()
        assert (first["revision"], second["revision"]) == (2, 3)
        assert first["sha256"] != second["sha256"]
        assert visit.complaints == []


def test_a_concept_of_another_base_model_is_usable_again_after_one_click(
    tmp_path: Path, photos: list[Photo], visits: Visits
) -> None:
    for seed in (1, 2):
        base = quick_base(tmp_path / f"base-{seed}", seed=seed)
        settings = {"PERFUSION_BASE_MODEL": str(base), "PERFUSION_EVALUATOR": "none"}
        with serving(tmp_path, **settings) as url:
            await_ready(url)
            if seed == 1:
                teach(url, photos[:1], name="rex")
                continue
            page = visits(width=390, height=844).open(url)
            card = page.locator("#gallery > li", has_text="<rex>")
            expect(card.locator(".pill")).to_have_text("not usable here")
            again = card.get_by_role("button", name="Teach again <rex>")
            expect(again).to_have_class(re.compile("primary"))
            again.click()
            ended(page)
            expect(card.get_by_role("button", name="Use <rex> in a prompt")).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= 390

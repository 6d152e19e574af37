"""The browser page: it draws what its graphs draw, without a server, for everyone."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from accessibility import violations
from PIL import Image
from playwright.sync_api import Page, expect
from running import Visits, serving
from static_server import published

import api
from api.cli.sharing.browser_page import OWN_FILES
from perfusion_core.base_model import BaseModel
from perfusion_core.conditioning import ConceptUse, condition
from perfusion_core.imaging.provenance import MADE_BY_A_MODEL, PNG_KEYWORD
from service.settings.environment import SHIPPED_BASE_MODEL
from tests.unit.perfusion_core.browser.drawing import drawn_by_graphs, drawn_by_torch
from tests.unit.perfusion_core.test_conditioning import concept_like

_WEB = Path(api.__file__).parent / "web"
_DRAW_MS = 60_000
_PROMPT = "a photo of <x> on the beach"


@pytest.fixture
def incomplete(tmp_path: Path) -> Iterator[str]:
    """The address of a page that has its prompts and no graphs."""
    for name in OWN_FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((_WEB / name).read_bytes())
    (tmp_path / "index.html").write_bytes((_WEB / "play" / "index.html").read_bytes())
    concept = {"superclass": "robot", "beta": 0.7, "tau": 0.15}
    prompts = [
        {"text": f"<{name}> at night", "file": "none", "similarities": [],
         "concepts": [{"placeholder": f"<{name}>", **concept}]}
        for name in ("rex", "ted")
    ]  # fmt: skip
    told = {"side": 128, "steps": [], "prompts": prompts, "bytes": 28_000_000}
    (tmp_path / "drawing.json").write_text(json.dumps(told))
    with published(tmp_path) as url:
        yield url


def test_the_page_is_usable_by_keyboard_and_screen_reader_and_says_what_is_missing(
    incomplete: str, visits: Visits
) -> None:
    page = visits(lenient=True).open(incomplete, wait=False)
    button = page.get_by_role("button", name="Load 28.0 MB and draw")
    expect(button).to_have_attribute("aria-disabled", "false")
    assert violations(page) == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_label("Prompt").select_option("<ted> at night")
    dial = page.get_by_role("slider", name="<ted> (robot): 0.8808, balanced")
    dial.press("End")
    expect(page.get_by_role("slider")).to_have_attribute("aria-valuetext", "0.9907, very strong")
    page.get_by_role("spinbutton", name="Seed").press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("the server has no file")
    expect(page.get_by_role("button", name="Draw")).to_have_attribute("aria-disabled", "false")


def test_a_saved_image_says_that_a_model_made_it(incomplete: str, visits: Visits) -> None:
    page = visits(lenient=True).open(incomplete, wait=False)
    url = page.evaluate(
        """async () => {
          const { withXmp } = await import("./play/png.js");
          const canvas = Object.assign(document.createElement("canvas"), { width: 3, height: 2 });
          const png = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
          const reader = new FileReader();
          reader.readAsDataURL(await withXmp(png, "<x:xmpmeta>ü</x:xmpmeta>"));
          await new Promise((resolve) => (reader.onload = resolve));
          return reader.result;
        }"""
    )
    saved = Image.open(BytesIO(base64.b64decode(url.partition(",")[2])))
    saved.load()  # checks the sums of all chunks
    assert saved.size == (3, 2)
    assert saved.info[PNG_KEYWORD] == "<x:xmpmeta>ü</x:xmpmeta>"


def canvas(page: Page) -> np.ndarray:
    """Return the image that the page shows (H, W, 3), in grey levels."""
    url = page.evaluate("document.getElementById('canvas').toDataURL()")
    png = base64.b64decode(url.partition(",")[2])
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"), dtype=float)


def draw(page: Page, seed: int) -> np.ndarray:
    """Press the button with this seed; return the image."""
    page.get_by_role("spinbutton", name="Seed").fill(str(seed))
    page.locator("#draw").click()
    expect(page.get_by_role("status")).to_contain_text(f"seed {seed}", timeout=_DRAW_MS)
    return canvas(page)


@pytest.mark.long
def test_a_concept_is_drawn_by_the_browser_after_the_server_has_gone(
    tmp_path: Path, visits: Visits
) -> None:
    """npm fetches the runtime, so this test is not part of `make test`."""
    base = BaseModel.load(SHIPPED_BASE_MODEL, device="cpu")
    base.backend = base.eager
    use = ConceptUse(concept_like(base, "cat", "x"), 0.6)
    use.concept.save(tmp_path / "x.safetensors")
    made = subprocess.run(
        [sys.executable, "-m", "api", "browser-page", _PROMPT, "--concept", "x.safetensors"],
        cwd=tmp_path, check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(api.__file__).parents[1])},
    )  # fmt: skip
    folder = tmp_path / "data" / "play"
    assert "1 prompt, " in made.stdout
    assert sum(file.stat().st_size for file in folder.rglob("*.*")) < 40e6
    # With this queue the server has no worker, so that it starts at once.
    with serving(tmp_path, PERFUSION_QUEUE_URL="redis://127.0.0.1:1/0") as url:
        visit = visits()
        page = visit.open(f"{url}/play", wait=False)
        noise = {
            seed: np.array(
                page.evaluate(
                    f"import('./play/drawing.js').then((m) => [...m.noise({seed}, 2048)])"
                ),
                np.float32,
            ).reshape(1, 8, 16, 16)
            for seed in (1, 7)
        }
        page.get_by_role("slider").fill("-0.6")
        shown = {1: draw(page, 1)}
    shown[7] = draw(page, 7)  # the server has stopped
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    told = Image.open(download.value.path()).info[PNG_KEYWORD]
    assert MADE_BY_A_MODEL in told and "a photo of &lt;x&gt; on the beach" in told
    assert visit.complaints == [] and visit.strangers == set()
    assert abs(float(noise[1].mean())) < 0.1 and 0.9 < float(noise[1].std()) < 1.1
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    packed = np.stack(
        [condition(base, text, concepts={"x": use}).packed.numpy() for text in ("", _PROMPT)]
    )
    for seed, image in shown.items():
        assert np.abs(image - drawn_by_graphs(files, packed, noise[seed])).max() <= 3
        assert np.abs(image - drawn_by_torch(base, _PROMPT, {"x": use}, noise[seed])).mean() < 4

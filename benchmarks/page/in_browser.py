"""A browser page: its bytes, seconds an image takes, and what fewer bytes cost in looks.

    python -m benchmarks.page.in_browser CONCEPT.safetensors ... [--only speed|looks] [--sheet FILE]

`speed` makes the page of the concepts, and Chromium draws on it with WASM on one thread. Processor
time is what the browser's processes took; on a busy machine it says more than the clock. `looks`
draws images of the same noise by the page's graphs, without a browser, and by torch in float32. The
sheet shows the first twelve: torch above, the page's graphs below.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image
from playwright.sync_api import sync_playwright

from benchmarks.staging import SHIPPED
from perfusion_core import BaseModel, Concept, ConceptUse
from perfusion_core.browser.page import make_files
from perfusion_core.browser.prompts import open_prompt
from perfusion_core.browser.weights import Storage
from perfusion_core.devices.options import DeviceOptions
from tests.e2e.running import launch
from tests.e2e.static_server import published
from tests.unit.perfusion_core.browser.drawing import drawn_by_graphs, drawn_by_torch

_PLACES = ("on the beach", "in the snow", "at night", "in the forest")
_KINDS: tuple[tuple[Storage, Storage], ...] = (
    ("int8", "float16"), ("float16", "float16"), ("int8", "int8"),
)  # fmt: skip
_DRAWN_MS = 600_000
_ROUNDS = 3


def main() -> None:
    """Print the figures; write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("concepts", type=Path, nargs="+")
    parser.add_argument("--only", choices=("speed", "looks"))
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--sheet", type=Path)
    arguments = parser.parse_args()
    concepts = [Concept.load(file) for file in arguments.concepts]
    prompts = [f"a photo of <{each.name}> {place}" for each in concepts for place in _PLACES]
    if arguments.only != "looks":
        with tempfile.TemporaryDirectory() as folder:
            _make(Path(folder), prompts, arguments.concepts)
            _time(Path(folder))
    if arguments.only == "speed":
        return
    options = DeviceOptions(dtype="float32", backend="eager")
    base = BaseModel.load(SHIPPED, device="cpu", device_options=options)
    uses = {each.name: ConceptUse(each) for each in concepts}
    _compare(base, prompts, uses, images=arguments.images, sheet=arguments.sheet)


def _make(folder: Path, prompts: list[str], concepts: list[Path]) -> None:
    named = [part for file in concepts for part in ("--concept", str(file))]
    command = [sys.executable, "-m", "api", "browser-page", *prompts, *named, "--out", str(folder)]
    subprocess.run(command, check=True)
    for file in sorted(folder.rglob("*.*")):
        if file.stat().st_size > 100_000:
            print(f"{file.name}: {file.stat().st_size / 1e6:.2f} MB")
    print(f"all files: {sum(f.stat().st_size for f in folder.rglob('*.*')) / 1e6:.1f} MB")


def _time(folder: Path) -> None:
    """Print how long Chromium takes to load everything, and for an image."""
    with published(folder) as url, sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page()
        page.goto(url)
        clock, processor = [], []
        for seed in range(_ROUNDS + 1):
            page.get_by_role("spinbutton", name="Seed").fill(str(seed))
            begun_s, taken_s = time.perf_counter(), _processor_seconds()
            page.locator("#draw").click()
            page.get_by_text(f"seed {seed}.").wait_for(timeout=_DRAWN_MS)
            clock.append(time.perf_counter() - begun_s)
            processor.append(_processor_seconds() - taken_s)
        browser.close()
    print("seconds by the clock, and of the processor:")
    print(f"loading and the first image: {clock[0]:.1f}, {processor[0]:.1f}")
    print(f"each further image: {_told(clock[1:])}; {_told(processor[1:])}")


def _processor_seconds() -> float:
    """Return what the browser's processes have taken; they are children of this one."""
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(each.user + each.system for each in times)


def _told(seconds: list[float]) -> str:
    return f"median {np.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"


def _compare(
    base: BaseModel,
    prompts: list[str],
    uses: dict[str, ConceptUse],
    *,
    images: int,
    sheet: Path | None,
) -> None:
    shape = (1, base.unet.config.in_channels, *2 * [base.unet.config.sample_size])
    own = {text: {n: use for n, use in uses.items() if f"<{n}>" in text} for text in prompts}
    asked = [prompts[k % len(prompts)] for k in range(images)]
    noise = [
        torch.randn(shape, generator=torch.Generator().manual_seed(k)).numpy()
        for k in range(images)
    ]
    exact = [
        drawn_by_torch(base, text, own[text], noise[k]).astype(float)
        for k, text in enumerate(asked)
    ]
    config = base.defaults.generate_config()
    packed = {}
    for text in prompts:
        betas = torch.tensor([use.bias("local") for use in own[text].values()])
        taus = torch.tensor([use.tau for use in own[text].values()])
        opened = open_prompt(base, text, own[text], config=config)
        packed[text] = opened.packed(betas, taus).numpy()
    for unet, decoder in _KINDS:
        files = make_files(base, own, runtime={}, unet=unet, decoder=decoder)
        drawn = [drawn_by_graphs(files, packed[text], noise[k]) for k, text in enumerate(asked)]
        means = [float(np.abs(a - b).mean()) for a, b in zip(exact, drawn, strict=True)]
        megabytes = sum(len(files[name]) for name in ("step.onnx", "decoder.onnx")) / 1e6
        print(
            f"U-Net {unet}, decoder {decoder}, {megabytes:.1f} MB: mean difference of an image in "
            f"grey levels: mean {np.mean(means):.2f}, median {np.median(means):.2f}, most "
            f"{max(means):.2f}, over {images} images"
        )
        if sheet is not None:
            rows = [np.concatenate(row[:12], axis=1) for row in (exact, drawn)]
            file = sheet.with_stem(f"{sheet.stem}-{unet}-{decoder}")
            Image.fromarray(np.concatenate(rows).astype(np.uint8)).save(file)


if __name__ == "__main__":
    main()

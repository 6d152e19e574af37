"""The page in a real browser, served as `perfusion serve` does: how fast, how steady, how large.

    python -m benchmarks.page [--only PART ...] [--loads 5] [--moves 12] [--data FOLDER]
    python -m benchmarks.page --pictures docs/images [--data FOLDER]

On an empty server the benchmark first presses the button that teaches the two toys, and counts
clicks and seconds until the first image. `loads` opens each room from a cold cache in a browser
that is slowed down (10 Mbit/s, 40 ms, a quarter of the processor), and counts bytes, presses of Tab
and how far things move. `live` drags a dial. --pictures makes the pictures of docs/page.md. With
--data the server keeps its data there, and is not taught again.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from benchmarks.page import first_image, live, loads, pictures
from service.settings.environment import SHIPPED_BASE_MODEL
from tests.e2e.running import await_ready, launch, serving

_PARTS = ("loads", "live")


def main() -> None:
    """Print a table of figures, or write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=_PARTS, default=_PARTS)
    parser.add_argument("--loads", type=int, default=5, help="cold loads of each room")
    parser.add_argument("--moves", type=int, default=12, help="moves of the dial")
    parser.add_argument("--steps", type=int, default=20, help="of the dial's sharp image")
    parser.add_argument("--data", type=Path, help="keep the server's data in this folder")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="write them, and no table")
    arguments = parser.parse_args()
    with _server(arguments.data) as url, _browser() as browser:
        rows = first_image.measure(browser, url)
        if arguments.pictures:
            pictures.write(browser, url, folder=arguments.pictures)
            return
        if "loads" in arguments.only:
            rows += loads.measure(browser, url, loads=arguments.loads)
        if "live" in arguments.only:
            rows += live.measure(browser, url, moves=arguments.moves, steps=arguments.steps)
    for name, value in rows:
        print(f"| {name} | {value} |")


@contextmanager
def _server(kept: Path | None) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as passing:
        folder = kept or Path(passing)
        folder.mkdir(parents=True, exist_ok=True)
        with serving(folder) as url:
            await_ready(url, base_model=SHIPPED_BASE_MODEL.name)
            yield url


@contextmanager
def _browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


if __name__ == "__main__":
    main()

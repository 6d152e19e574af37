"""Two servers, a browser and a concept, shared by every test of the page."""

import io
import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from PIL.Image import Image
from playwright.sync_api import Browser, BrowserContext, sync_playwright
from running import Photo, Visit, Visits, await_ready, launch, serving, teach

from api.demo.subjects import SUBJECTS, photograph
from service.settings.environment import SHIPPED_BASE_MODEL
from tests.integration.stack.tiny_base import write_tiny_base


@pytest.fixture(scope="session")
def photos() -> list[Photo]:
    """Three photos of the demo's robot; the last one is cut out, its background transparent."""
    taken = photograph(SUBJECTS[0])[:3]
    cut_out = taken[-1].picture.copy()
    cut_out.putalpha(taken[-1].mask)
    pictures = [photo.picture for photo in taken[:-1]] + [cut_out]
    return [_file(f"robot-{number}.png", picture) for number, picture in enumerate(pictures)]


@pytest.fixture(scope="session")
def mask() -> Photo:
    """The first photo's own mask."""
    return _file("mask-0.png", photograph(SUBJECTS[0])[0].mask)


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `server` has its data."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="session")
def server(server_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the embedded default, ready to work, with nothing in it.

    Its base model draws noise: the page shows that as it shows anything else, and quickly.
    """
    settings = {
        "PERFUSION_BASE_MODEL": str(write_tiny_base(tmp_path_factory.mktemp("models") / "tiny")),
        "PERFUSION_EVALUATOR": str(SHIPPED_BASE_MODEL.with_name("evaluator")),
    }
    with serving(server_folder, **settings) as url:
        await_ready(url, base_model="tiny")
        yield url


@pytest.fixture(scope="session")
def taught(server: str, photos: list[Photo]) -> str:
    """The name of a concept that is ready, taught over REST."""
    teach(server, photos, name="tin-owl")
    return "tin-owl"


@pytest.fixture(scope="session")
def moved(
    server: str,
    server_folder: Path,
    taught: str,
    photos: list[Photo],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The address of a server on another base model, with a copy of what `server` holds.

    That is `taught` and a second concept, glass-cat. The training that one click starts is quick,
    and nothing judges it.
    """
    teach(server, photos[:1], name="glass-cat")
    folder = tmp_path_factory.mktemp("moved")
    (folder / "data").mkdir()
    shutil.copytree(server_folder / "data" / "blobs", folder / "data" / "blobs")
    with (
        closing(sqlite3.connect(server_folder / "data" / "perfusion.db")) as old,
        closing(sqlite3.connect(folder / "data" / "perfusion.db")) as new,
    ):
        old.backup(new)
    base = write_tiny_base(folder / "another", seed=8)
    train = {"max_train_steps": 10, "train_batch_size": 1}
    (base / "perfusion.json").write_text(
        json.dumps({"train": train, "known_superclasses": ["bear", "burger", "robot"]})
    )
    settings = {"PERFUSION_BASE_MODEL": str(base), "PERFUSION_EVALUATOR": "none"}
    with serving(folder, **settings) as url:
        await_ready(url, base_model="another")
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium or Chrome that is installed on this machine.

    Playwright's event loop runs until the fixture ends. The next module of the same process may
    need a loop of its own.
    """
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def visits(browser: Browser) -> Iterator[Visits]:
    """Makes tabs of any size and colour scheme; closes them."""
    contexts: list[BrowserContext] = []

    def visit(
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        touch: bool = False,
        lenient: bool = False,
    ) -> Visit:
        contexts.append(
            browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if dark else "light",
                reduced_motion="reduce",
                has_touch=touch,
                bypass_csp=lenient,  # for a script of the test inside the page
            )
        )
        return Visit(contexts[-1])

    yield visit
    for context in contexts:
        context.close()


def _file(name: str, picture: Image) -> Photo:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return Photo(name=name, data=buffer.getvalue())

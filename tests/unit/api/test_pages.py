"""The browser page at /play: its files, its policy, and the sentence where there is none."""

from collections.abc import Callable
from pathlib import Path

from starlette.testclient import TestClient

from api.middleware import BROWSER_PAGE_CSP, PAGE_CSP
from service.wiring import Service


def test_where_there_is_no_browser_page_the_command_that_makes_it_is_named(
    client: TestClient,
) -> None:
    for path in ("/play", "/play/"):
        page = client.get(path)
        assert page.status_code == 200 and page.url.path == "/play"
        assert "perfusion browser-page" in page.text
        assert page.headers["content-security-policy"] == PAGE_CSP
    assert client.get("/play/drawing.json").status_code == 404


def test_a_browser_page_is_served_with_a_policy_of_its_own(
    service: Service, make_client: Callable[..., TestClient]
) -> None:
    folder = Path(service.settings.data_dir) / "play"
    (folder / "play").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>Here</title>")
    (folder / "play" / "worker.js").write_text("// code")
    client = make_client(service)
    page = client.get("/play")
    assert page.url.path == "/play/" and "Here" in page.text
    for answer in (page, client.get("/play/play/worker.js")):
        assert answer.headers["content-security-policy"] == BROWSER_PAGE_CSP
        assert answer.headers["cache-control"] == "no-cache"
    assert client.get("/play/%2e%2e/perfusion.db").status_code == 404


def test_the_policy_lets_the_page_compile_wasm_and_run_nothing_else() -> None:
    rules = dict(rule.split(" ", 1) for rule in BROWSER_PAGE_CSP.split("; "))
    assert rules.pop("script-src") == "'self' 'wasm-unsafe-eval'"
    assert rules.pop("img-src") == "'self' blob: data:"
    own = {"worker-src", "style-src", "connect-src"}
    none = {"default-src", "base-uri", "form-action", "frame-ancestors"}
    assert rules == dict.fromkeys(own, "'self'") | dict.fromkeys(none, "'none'")

"""The page's modules by themselves, in the browser, against the server's own rules."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

import api
from perfusion_core.errors import PromptError
from perfusion_core.evaluation.curve import BETAS, STRENGTHS, image_gain, text_kept
from perfusion_core.strength import DEFAULT_BETA, DEFAULT_TAU, beta_from_strength
from perfusion_core.text.prompt import parse

_WEB = Path(api.__file__).parent / "web"
_MAX_LINES = 200
_MARKUP = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\("


@pytest.fixture(scope="module")
def page(server: str, browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    page.goto(server)
    yield page
    page.close()


def call(page: Page, module: str, code: str, argument: Any = None) -> Any:
    """Run `code` with the module as `m` and the argument as `a`."""
    script = f"async (a) => {{ const m = await import('/web/{module}.js'); {code} }}"
    return page.evaluate(script, argument)


@pytest.mark.parametrize(
    "prompt",
    [
        "a photo of <teddy>",
        "<teddy:0.6> next to <rex>, and <teddy>",
        "<Teddy> <-rex> <re x> <> < a > <b",
        f"<{'a' * 63}> <{'a' * 64}>",
        "a<b>c<d:.5>e<1-2-3: 0.25 >",
        "é <teddy> 🦖 <rex:0.999>",
    ],
)
def test_the_page_reads_placeholders_as_the_server_does(page: Page, prompt: str) -> None:
    code = "return m.mentions(a).map((one) => [one.name, one.strength])"
    told = [(placeholder.name, placeholder.strength) for placeholder in parse(prompt).placeholders]
    assert [tuple(mention) for mention in call(page, "prompt", code, prompt)] == told


def test_warnings_are_shown_in_the_servers_words_and_go_with_their_job(page: Page) -> None:
    code = (
        "m.showWarnings(a);"
        "return [...document.querySelectorAll('#stage-warnings li')].map((one) => one.textContent)"
    )
    job = {"warnings": [{"detail": "<rex> and <ted> lie close together."}, {"detail": "<b>"}]}
    assert call(page, "warnings", code, job) == ["<rex> and <ted> lie close together.", "<b>"]
    assert call(page, "warnings", code, {"warnings": []}) == []


@pytest.mark.parametrize("strength", ["0", "1", "-1", "nan", "", "x", "1e9"])
def test_the_page_and_the_server_refuse_the_same_strengths(page: Page, strength: str) -> None:
    prompt = f"<teddy:{strength}>"
    with pytest.raises(PromptError):
        parse(prompt)
    assert call(page, "prompt", "return Number.isNaN(m.mentions(a)[0].strength)", prompt)


@pytest.mark.parametrize("strength", [0.05, 0.4, *STRENGTHS, 0.9999])
def test_the_page_knows_the_same_gates_as_the_server(page: Page, strength: float) -> None:
    code = "const b = m.betaOf(a); return [b, m.strengthOf(b), m.defaultBeta('local', a)]"
    beta, again, recommended = call(page, "gate", code, strength)
    assert beta == recommended == pytest.approx(beta_from_strength(strength), abs=1e-12)
    assert again == strength
    code = "return ['local', 'global'].map((locking) => m.defaultBeta(locking, null))"
    assert call(page, "gate", code) == [DEFAULT_BETA["local"], DEFAULT_BETA["global"]]
    code = "return [m.FAINTEST, m.STRONGEST, m.TAU, m.defaultBeta('global', a)]"
    told = call(page, "gate", code, strength)
    assert told == [BETAS[0], BETAS[-1], DEFAULT_TAU, DEFAULT_BETA["global"]]


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("My Teddy!", "my-teddy"),
        ("  Größe 3  ", "gro-e-3"),
        ("---", ""),
        ("日本", ""),
        ("x" * 80, "x" * 63),
    ],
)
def test_a_suggested_name_is_one_that_the_server_accepts(page: Page, typed: str, name: str) -> None:
    assert call(page, "words", "return m.slug(a)", typed) == name


@pytest.mark.parametrize(
    ("image", "text", "ceiling", "bars"),
    [
        (0.3, 0.4, 0.8, (0, 100)),  # the plain superclass itself
        (0.55, 0.2, 0.8, (50, 50)),
        (0.95, 0.9, 0.8, (100, 100)),
        (0.1, -0.2, 0.8, (0, 0)),
        (0.65, 0.4, None, (50, 100)),  # one picture: compared with itself
    ],
)
def test_the_bars_of_a_curve_say_what_the_method_says(
    page: Page, image: float, text: float, ceiling: float | None, bars: tuple[int, int]
) -> None:
    point = {"image_similarity": image, "text_similarity": text}
    curve = {
        "superclass": {"image_similarity": 0.3, "text_similarity": 0.4}, "ceiling": ceiling
    }  # fmt: skip
    told = call(
        page, "curve", "return m.shares(a.point, a.curve)", {"point": point, "curve": curve}
    )
    assert (told["looks"], told["follows"]) == bars
    gained = image_gain(image, superclass=0.3, ceiling=ceiling)
    assert told["looks"] == round(100 * gained)
    assert told["follows"] == round(100 * text_kept(text, superclass=0.4))


@pytest.mark.parametrize("chunk_size", [1, 2, 7, 1000])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_an_event_stream_may_be_cut_anywhere(page: Page, newline: str, chunk_size: int) -> None:
    text = ': hello\n\nid: 7\nevent: progress\ndata: {\ndata: "ü": 1}\n\ndata:end\n\n'
    stream = list(text.replace("\n", newline).encode())
    code = """
      const bytes = new Uint8Array(a.stream);
      const body = new ReadableStream({ start(sink) {
        for (let n = 0; n < bytes.length; n += a.size) sink.enqueue(bytes.slice(n, n + a.size));
        sink.close();
      } });
      const events = [];
      for await (const event of m.parseEvents(body)) events.push(event);
      return events;
    """
    events = call(page, "events", code, {"stream": stream, "size": chunk_size})
    assert events[0] == {"id": "7", "type": "progress", "data": '{\n"ü": 1}'}
    assert json.loads(events[0]["data"]) == {"ü": 1}
    # A last line that ends in a bare CR waits for the LF that may follow.
    assert len(events) == (1 if newline == "\r" else 2)


def test_no_module_makes_markup_from_text_or_grows_long() -> None:
    modules = sorted(_WEB.glob("*.js"))
    assert modules
    for module in modules:
        code = module.read_text("utf-8")
        assert not re.search(_MARKUP, code), module.name
        assert len(code.splitlines()) <= _MAX_LINES, module.name


def test_every_file_of_the_page_stays_on_its_own_server() -> None:
    for file in _WEB.iterdir():
        text = file.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//[a-z0-9-]+\.[a-z]", text), file.name

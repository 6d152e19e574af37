"""The page's modules by themselves, in the browser, against the server's own rules."""

import base64
import io
import json
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from actions import show_photos
from PIL import Image, ImageChops, ImageStat
from playwright.sync_api import Browser, Page
from running import Photo

import api
from api.demo.subjects import SUBJECTS, photograph
from perfusion_core.config import read_defaults
from perfusion_core.errors import PromptError
from perfusion_core.evaluation.curve import BETAS, STRENGTHS, image_gain, text_kept
from perfusion_core.strength import DEFAULT_BETA, DEFAULT_TAU, beta_from_strength
from perfusion_core.text.prompt import parse
from perfusion_core.text.superclasses import superclass_sentence
from service.pictures.decoder import STORED_SIDE_PIXELS
from service.settings.environment import SHIPPED_BASE_MODEL
from service.validation import check_superclass

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
    assert [tuple(mention) for mention in call(page, "shared/prompt", code, prompt)] == told


def test_warnings_are_shown_in_the_servers_words_and_go_with_their_job(page: Page) -> None:
    code = (
        "const { h, render } = await import('/web/vendor/preact.js');"
        "window.shown ??= document.body.appendChild(document.createElement('div'));"
        "render(h(m.Warnings, { job: a }), window.shown);"
        "return [...window.shown.querySelectorAll('li')].map((item) => item.textContent)"
    )
    told = ["<rex> and <ted> lie close together.", "<b>"]
    job = {"warnings": [{"type": f"/problems/{k}", "detail": each} for k, each in enumerate(told)]}
    assert call(page, "shared/job-progress", code, job) == told
    assert call(page, "shared/job-progress", code, {"warnings": []}) == []


@pytest.mark.parametrize(
    "superclass", ["badger", "mug", "Polar  Bear", "hot dog stand", "teddies", "ct", "zzz", "boot"]
)
def test_the_page_says_of_a_superclass_what_the_server_says(page: Page, superclass: str) -> None:
    known = read_defaults(SHIPPED_BASE_MODEL).known_superclasses
    code = (
        "const { store } = await import('/web/shared/store.js');"
        "const base = store.base.value;"
        "store.base.value = { ...base, known_superclasses: a.known };"
        "const { detail, near } = m.findingOf(a.superclass);"
        "store.base.value = base;"
        "return [detail, near]"
    )
    detail, near = call(page, "teach/word", code, {"superclass": superclass, "known": known})
    told = superclass_sentence(check_superclass(superclass), known=known)
    spelled = f" Nearest in spelling: {', '.join(near)}." if near else ""
    assert told == ((detail and f"{detail}{spelled} It knows: {', '.join(known)}.") or None)


@pytest.mark.parametrize("strength", ["0", "1", "-1", "nan", "", "x", "1e9"])
def test_the_page_and_the_server_refuse_the_same_strengths(page: Page, strength: str) -> None:
    prompt = f"<teddy:{strength}>"
    with pytest.raises(PromptError):
        parse(prompt)
    assert call(page, "shared/prompt", "return Number.isNaN(m.mentions(a)[0].strength)", prompt)


@pytest.mark.parametrize("strength", [0.05, 0.4, *STRENGTHS, 0.9999])
def test_the_page_knows_the_same_gates_as_the_server(page: Page, strength: float) -> None:
    code = "const b = m.betaOf(a); return [b, m.strengthOf(b), m.defaultBeta('local', a)]"
    beta, again, recommended = call(page, "shared/gate", code, strength)
    assert beta == recommended == pytest.approx(beta_from_strength(strength), abs=1e-12)
    assert again == strength
    code = "return ['local', 'global'].map((locking) => m.defaultBeta(locking, null))"
    assert call(page, "shared/gate", code) == [DEFAULT_BETA["local"], DEFAULT_BETA["global"]]
    code = "return [m.FAINTEST, m.STRONGEST, m.TAU, m.defaultBeta('global', a)]"
    told = call(page, "shared/gate", code, strength)
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
    assert call(page, "shared/words", "return m.slug(a)", typed) == name


@pytest.mark.parametrize(
    ("image", "text", "ceiling", "floor", "bars"),
    [
        (0.3, 0.4, 0.8, 0, (0, 100)),  # the plain superclass itself
        (0.55, 0.2, 0.8, 0, (50, 50)),
        (0.95, 0.9, 0.8, 0, (100, 100)),
        (0.1, -0.2, 0.8, 0, (0, 0)),
        (0.65, 0.4, None, 0, (50, 100)),  # one picture: compared with itself
        (0.3, 0.3, 0.8, 0.2, (0, 50)),
        (0.3, 0.2, 0.8, 0.39, (0, 100)),  # no room between floor and superclass
    ],
)
def test_the_bars_of_a_curve_say_what_the_method_says(
    page: Page,
    image: float,
    text: float,
    ceiling: float | None,
    floor: float,
    bars: tuple[int, int],
) -> None:
    point = {"image_similarity": image, "text_similarity": text}
    curve = {
        "superclass": {"image_similarity": 0.3, "text_similarity": 0.4}, "ceiling": ceiling,
        "text_floor": floor,
    }  # fmt: skip
    shares = "return m.shares(a.point, a.curve)"
    told = call(page, "create/dials/curve", shares, {"point": point, "curve": curve})
    assert (told["looks"], told["follows"]) == bars
    gained = image_gain(image, superclass=0.3, ceiling=ceiling)
    assert told["looks"] == round(100 * gained)
    assert told["follows"] == round(100 * text_kept(text, superclass=0.4, floor=floor))


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
    events = call(page, "server/events", code, {"stream": stream, "size": chunk_size})
    assert events[0] == {"id": "7", "type": "progress", "data": '{\n"ü": 1}'}
    assert json.loads(events[0]["data"]) == {"ü": 1}
    # A last line that ends in a bare CR waits for the LF that may follow.
    assert len(events) == (1 if newline == "\r" else 2)


def large(kind: str, **options: object) -> Photo:
    """A photo of 2600 x 1300 pixels, red on its left, of more than two megabytes."""
    picture = Image.effect_noise((2600, 1300), 90).convert("RGB")
    picture.paste("red", (0, 0, 1300, 1300))
    if kind == "PNG":
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return Photo(f"large.{kind.lower()}", file.getvalue(), f"image/{kind.lower()}")


def test_large_photos_are_shrunk_upright_with_their_transparency_and_others_sent_as_they_are(
    page: Page, photos: list[Photo]
) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # shown turned by a quarter: red is on top
    chosen = [large("JPEG", exif=turned, quality=100), large("PNG"), photos[0]]
    chosen.append(Photo("phone.heic", bytes(3 * 1024**2), "image/heic"))
    show_photos(page, chosen)
    code = """
      const form = new FormData();
      await m.appendPictures(form);
      const read = (file) => new Promise((done) => {
        const reads = new FileReader();
        reads.onload = () => done([file.name, reads.result.split(",")[1]]);
        reads.readAsDataURL(file);
      });
      return Promise.all(form.getAll("images").map(read));
    """
    sent = {name: base64.b64decode(text) for name, text in call(page, "teach/pictures", code)}
    assert [*sent] == [photo.name for photo in chosen]
    jpeg, png = (Image.open(io.BytesIO(sent[photo.name])) for photo in chosen[:2])
    assert (jpeg.format, jpeg.size) == ("JPEG", (STORED_SIDE_PIXELS // 2, STORED_SIDE_PIXELS))
    assert jpeg.getpixel((512, 100)) == pytest.approx((255, 0, 0), abs=6)
    assert len(sent[chosen[0].name]) < len(chosen[0].data) / 2
    assert (png.format, png.size) == ("PNG", (STORED_SIDE_PIXELS, STORED_SIDE_PIXELS // 2))
    assert png.getchannel("A").getextrema() == pytest.approx((0, 255), abs=1)
    assert [sent[photo.name] for photo in chosen[2:]] == [photo.data for photo in chosen[2:]]


def own_files() -> list[Path]:
    """Return the page's files that are not taken from elsewhere."""
    return [file for file in sorted(_WEB.rglob("*.*")) if "vendor" not in file.parts]


def test_no_module_makes_markup_from_text_or_grows_long() -> None:
    modules = [file for file in own_files() if file.suffix == ".js"]
    assert len(modules) > 50
    for module in modules:
        code = module.read_text("utf-8")
        assert not re.search(_MARKUP, code), module.name
        assert len(code.splitlines()) <= _MAX_LINES, module.name


def test_every_file_of_the_page_stays_on_its_own_server() -> None:
    for file in own_files():
        if file.suffix in (".png", ".webp"):
            continue
        text = file.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//[a-z0-9-]+\.[a-z]", text), file.name


def test_the_browser_is_told_of_every_module_before_it_finds_it() -> None:
    told = re.findall(r'modulepreload" href="web/([^"]+)"', (_WEB / "index.html").read_text())
    # /docs and /play are pages of their own.
    modules = {
        str(file.relative_to(_WEB))
        for file in _WEB.rglob("*.js")
        if not any(file.is_relative_to(_WEB / page) for page in ("docs", "play"))
    }
    assert len(told) == len(set(told))
    assert set(told) == modules - {"server/types.js"}


def test_the_vendored_libraries_are_those_that_their_list_names() -> None:
    folder = _WEB / "vendor"
    listed = dict(
        re.findall(r"^\| `(\S+)` .*`([0-9a-f]{64})` \|$", (folder / "README.md").read_text(), re.M)
    )
    found = {file.name: sha256(file.read_bytes()).hexdigest() for file in folder.glob("*.js")}
    assert found == listed


def test_the_toys_of_the_page_are_those_of_the_demo() -> None:
    for subject in SUBJECTS:
        for k, photo in enumerate(photograph(subject)):
            shown = Image.open(_WEB / "toys" / f"{subject.name}-{k}.webp").convert("RGB")
            mask = Image.open(_WEB / "toys" / f"{subject.name}-{k}-mask.png").convert("L")
            difference = ImageStat.Stat(ImageChops.difference(shown, photo.picture)).mean
            assert max(difference) < 6
            assert ImageStat.Stat(ImageChops.difference(mask, photo.mask)).mean[0] < 6


def test_a_question_that_follows_another_at_once_stays_open(page: Page) -> None:
    told = call(
        page,
        "shared/confirm",
        """
        const rendered = () => new Promise((done) => setTimeout(done, 100));
        const ask = (title) => m.confirmed({ title, text: "", yes: "Yes" });
        const first = ask("The first?");
        await rendered();
        const dialog = document.getElementById("confirm");
        dialog.close(); // its event comes later than the next key
        const second = ask("The second?");
        await rendered();
        const title = dialog.open && dialog.querySelector("h2").textContent;
        dialog.close("yes");
        return [await first, title, await second];
        """,
    )
    assert told == [False, "The second?", True]

"""A contact sheet: images at their places, and labels that stay readable."""

import pytest
from PIL import Image

from perfusion_core.imaging import contact_sheet
from perfusion_core.imaging.contact_sheet import Axis

COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30), (30, 200, 200)]


def colour(column: int, row: int, size: tuple[int, int]) -> Image.Image:
    return Image.new("RGB", size, COLOURS[(column + 2 * row) % len(COLOURS)])


def centre(sheet: Image.Image, wanted: tuple[int, int, int]) -> tuple[float, float]:
    """The middle of all pixels of a colour, as shares of the sheet."""
    pixels = [k for k, pixel in enumerate(sheet.get_flattened_data()) if pixel == wanted]
    width, height = sheet.size
    columns, rows = [k % width for k in pixels], [k // width for k in pixels]
    return sum(columns) / len(pixels) / width, sum(rows) / len(pixels) / height


def test_the_first_axis_has_the_columns_and_the_second_the_rows() -> None:
    sheet = contact_sheet.draw(
        [Axis("seed", ["1", "2"]), Axis("locking", ["local", "global"])],
        colour,
        image_size=(64, 64),
    )
    places = [centre(sheet, COLOURS[k]) for k in range(4)]
    assert places[0][0] < places[1][0] and places[2][0] < places[3][0]
    assert places[0][1] == pytest.approx(places[1][1], abs=0.01)
    assert places[0][1] < places[2][1]


def test_many_values_of_one_axis_take_several_lines() -> None:
    sheet = contact_sheet.draw(
        [Axis("seed", [str(k) for k in range(64)])], colour, image_size=(512, 512)
    )
    assert 0.7 < sheet.width / sheet.height < 1.1
    assert sheet.width < 2600


def test_long_prompts_are_cut_but_what_differs_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    draw_text = contact_sheet.ImageDraw.ImageDraw.text

    def note(pen: object, place: object, text: str, **options: object) -> None:
        written.append(text)
        draw_text(pen, place, text, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(contact_sheet.ImageDraw.ImageDraw, "text", note)
    begin = "a very detailed photograph of <rex>"
    prompts = [f"{begin} in the snow", f"{begin} {'on and ' * 60}on", f"{begin} im Gr\u00fcnen"]
    contact_sheet.draw([Axis("prompt", prompts)], colour, image_size=(64, 64))
    assert "\u2026 in the snow" in written
    assert "\u2026 im Grunen" in written
    assert sum(line.endswith(("on…", "and…")) for line in written) == 1
    assert len(written) < 10


def test_a_picture_of_another_aspect_is_not_distorted() -> None:
    assert contact_sheet.fit(Image.new("RGB", (30, 60)), size=(100, 100)).size == (50, 100)


def test_sheets_below_each_other_keep_their_pixels_and_a_nameless_axis_takes_no_line() -> None:
    named, nameless = (
        contact_sheet.draw([Axis(name, ["1", "2"])], colour, image_size=(64, 64))
        for name in ("seed", "")
    )
    assert nameless.height < named.height
    stacked = contact_sheet.stack([named, nameless.crop((0, 0, 50, 40))])
    assert stacked.size == (named.width, named.height + 40)
    assert stacked.crop((0, 0, *named.size)).tobytes() == named.tobytes()

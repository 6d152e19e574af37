"""Contact sheets of what a run drew: figures 1, 3 and 4, always the first seed, none left out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from benchmarks.paper.attention import METHODS
from benchmarks.paper.compare import kept_in
from benchmarks.paper.subjects import REPORTED, TUNED, photograph

_SIDE = 64
_STEP = _SIDE + 2  # as compare.contact_sheet has it
_LABEL = 110
_HEADER = 16
_SHORT = {
    "superclass": "class",
    "perfusion": "ours",
    "textual inversion": "text. inv.",
    "lora": "LoRA",
    "custom diffusion": "custom d.",
    "dreambooth": "dreamb.",
}
_SHOWN_PROMPTS = (0, 3, 8)  # on the beach, in the forest, next to a tree

Rows = dict[str, list[Image.Image]]


def write_sheets(
    results: Mapping[str, Sequence[dict[str, Any]]],
    composed: Mapping[str, Sequence[dict[str, Any]]],
    folder: Path,
    to: Path,
) -> None:
    """Write subjects.png, strengths.png, attention.png, and a sheet for each composition."""
    ours = results["perfusion"]
    subjects = [one["subject"] for one in ours]
    shown = [k for k in _SHOWN_PROMPTS if k < len(ours[0]["prompts"])]
    last = ours[0]["rows"][-1]["steps"]
    dials = {k: row["dial"] for k, row in enumerate(ours[0]["rows"]) if row["steps"] == last}
    methods = [name for name in _SHORT if name in results]

    at_usual = {name: len(results[name][0]["rows"]) for name in methods}  # below the photos' row
    at_usual["perfusion"] = 1 + list(dials)[len(dials) // 2]
    rows: Rows = {}
    for subject in subjects:
        files = {name: kept_in(folder, name, [subject]) for name in methods}
        rows[subject] = [_photo(subject)]
        rows[subject] += [_cut(files[m], at_usual[m], prompt) for prompt in shown for m in methods]
    names = [_SHORT[name] for name in methods]
    _write(rows, ["photo", *names * len(shown)], to / "subjects.png")

    rows = {}
    for subject in subjects:
        file = kept_in(folder, "perfusion", [subject])
        rows[subject] = [_photo(subject)]
        rows[subject] += [_cut(file, k + 1, prompt) for prompt in shown for k in dials]
    strengths = [f"{dial:g}" for dial in dials.values()]
    _write(rows, ["photo", *strengths * len(shown)], to / "strengths.png")

    rows = {}
    for subject in subjects:
        file = kept_in(folder, "attention", [subject])
        for k, name in enumerate(METHODS):
            rows[f"{subject},\n{_SHORT[name]}"] = [_cut(file, k, x) for x in range(8)]
    _write(rows, [], to / "attention.png")

    for title, sets in composed.items():
        rows = {}
        for one in sets:
            file, count = kept_in(folder, title, one["subjects"]), len(one["images"])
            rows["\n".join(one["subjects"])] = [
                *map(_photo, one["subjects"]), *(_cut(file, 0, x) for x in range(count)),
            ]  # fmt: skip
        _write(rows, [], to / title.replace(", ", "-").replace(" ", "-"))


def _write(rows: Rows, header: Sequence[str], file: Path) -> None:
    """A row of images behind each name, under a header."""
    widest = max(map(len, rows.values()))
    page = Image.new("RGB", (_LABEL + _STEP * widest, _HEADER + _STEP * len(rows)), "white")
    pen = ImageDraw.Draw(page)
    for x, title in enumerate(header):
        pen.text((_LABEL + _STEP * x + 2, 2), title, fill="black")
    for y, (name, images) in enumerate(rows.items()):
        pen.text((4, _HEADER + _STEP * y + 12), name, fill="black")
        for x, image in enumerate(images):
            page.paste(image.convert("RGB"), (_LABEL + _STEP * x, _HEADER + _STEP * y))
    page.save(file.with_suffix(".png"))


def _photo(name: str) -> Image.Image:
    (subject,) = (one for one in (*REPORTED, *TUNED) if one.name == name)
    return photograph(subject)[0].picture


def _cut(file: Path, row: int, column: int) -> Image.Image:
    """One image of the contact sheet that was kept beside a result."""
    left, top = column * _STEP, row * _STEP
    with Image.open(file.with_suffix(".png")) as kept:
        return kept.crop((left, top, left + _SIDE, top + _SIDE))

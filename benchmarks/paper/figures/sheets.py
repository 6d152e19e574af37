"""Contact sheets of a run's images: figures 1, 3 and 4, always of the first seed, all of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from benchmarks.paper.contact import cut
from benchmarks.paper.figures.attention import PROMPTS

_MOST_SIDE = 80  # of an image on a sheet, in pixels: larger ones are shrunk
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
Found = Sequence[dict[str, Any]]
Results = Mapping[str, Found]


def write_subjects(results: Results, folder: Path, file: Path) -> None:
    """Write figure 3: each subject by each method at its usual steps and dial."""
    shown, methods = _shown(results), [name for name in _SHORT if name in results]
    rows: Rows = {}
    for number, result in enumerate(results["perfusion"]):
        subject = result["subject"]
        rows[subject] = [_cut(folder, result, 0, 0)]  # above: the photos
        for prompt in shown:
            for name in methods:
                own = results[name][number]
                rows[subject].append(_cut(folder, own, _usual_row(own) + 1, prompt))
    write_rows(rows, ["photo", *[_SHORT[name] for name in methods] * len(shown)], file)


def write_sweep(name: str, results: Results, folder: Path, file: Path) -> None:
    """Write the sweep `name` of one concept file for each subject, by the bias β."""
    shown, ours = _shown(results), results[name]
    dials = [f"{row['dial']:g}" for row in ours[0]["rows"]]
    rows: Rows = {}
    for our in ours:
        subject = our["subject"]
        rows[subject] = [_cut(folder, our, 0, 0)]
        rows[subject] += [
            _cut(folder, our, k + 1, prompt) for prompt in shown for k in range(len(dials))
        ]
    write_rows(rows, ["photo", *dials * len(shown)], file)


def write_attention(found: Found, folder: Path, file: Path) -> None:
    """Write figure 1: images, and next to each where the subject's word acts."""
    rows: Rows = {}
    for result in found:
        for k, name in enumerate(result["methods"]):
            label = f"{result['subject']},\n{_SHORT.get(name, name.replace(', ', chr(10)))}"
            rows[label] = [_cut(folder, result, k, x) for x in range(2 * len(PROMPTS))]
    write_rows(rows, [], file)


def write_acts(results: Results, folder: Path, file: Path) -> None:
    """Write the prompts that act, pose and wear: each subject by each method at its usual dial."""
    rows: Rows = {}
    methods = [name for name in _SHORT if name in results]
    for number, result in enumerate(results["perfusion"]):
        for name in methods:
            found = results[name][number]
            acts = range(len(found["acts"]))
            rows[f"{result['subject']},\n{_SHORT[name]}"] = [
                _cut(folder, found, len(found["rows"]) + 1, x) for x in acts
            ]
    write_rows(rows, [], file)


def write_composition(sets: Found, folder: Path, file: Path) -> None:
    """Write figure 4: a photo of each subject, and every image of them together."""
    rows: Rows = {}
    for result in sets:
        names = result["subjects"]
        photos = [_cut(folder, result, 0, x) for x in range(len(names))]
        images = [_cut(folder, result, 1, x) for x in range(len(result["images"]))]
        rows["\n".join(names)] = [*photos, *images]
    write_rows(rows, [], file)


def _usual_row(result: Mapping[str, Any]) -> int:
    usual = (result["acting"]["steps"], result["acting"]["dial"])
    return [(row["steps"], row["dial"]) for row in result["rows"]].index(usual)


def _shown(results: Results) -> list[int]:
    return [k for k in _SHOWN_PROMPTS if k < len(results["perfusion"][0]["prompts"])]


def write_rows(rows: Rows, header: Sequence[str], file: Path) -> None:
    """Write a row of images after each name, under a header."""
    side = min(_MOST_SIDE, next(iter(rows.values()))[0].width)
    step, widest = side + 2, max(map(len, rows.values()))
    page = Image.new("RGB", (_LABEL + step * widest, _HEADER + step * len(rows)), "white")
    pen = ImageDraw.Draw(page)
    for x, title in enumerate(header):
        pen.text((_LABEL + step * x + 2, 2), title, fill="black")
    for y, (name, images) in enumerate(rows.items()):
        pen.text((4, _HEADER + step * y + 12), name, fill="black")
        for x, image in enumerate(images):
            tile = image.convert("RGB")
            if tile.width != side:
                tile = tile.resize((side, side), Image.Resampling.LANCZOS)
            page.paste(tile, (_LABEL + step * x, _HEADER + step * y))
    page.save(file, quality=72, method=6)  # a quarter of the bytes, and hardly a visible difference


def _cut(folder: Path, result: Mapping[str, Any], row: int, column: int) -> Image.Image:
    return cut(folder / result["sheet"], row, column)

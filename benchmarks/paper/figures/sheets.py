"""Contact sheets of a run's images: figures 1, 3 and 4, always of the first seed, all of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from benchmarks.paper.compare import kept_in
from benchmarks.paper.contact import cut
from benchmarks.paper.figures.attention import METHODS, PROMPTS
from benchmarks.paper.methods.perfusion import USUAL_BETA
from benchmarks.paper.subjects import REPORTED, TUNED, photograph

_MOST_SIDE = 128  # of an image on a sheet, in pixels: larger ones are shrunk
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
    """Write figure 3: each subject by each method at its last setting; ours at the usual bias."""
    shown, methods = _shown(results), [name for name in _SHORT if name in results]
    rows: Rows = {}
    for number, result in enumerate(results["perfusion"]):
        subject = result["subject"]
        rows[subject] = [_cut(kept_in(folder, "perfusion", [subject]), 0, 0)]  # above: the photos
        for prompt in shown:
            for name in methods:
                measured = results[name][number]["rows"]
                dials = [row["dial"] for row in measured]
                usual = dials.index(USUAL_BETA) if name == "perfusion" else len(measured) - 1
                kept = kept_in(folder, name, [subject])
                rows[subject].append(_cut(kept, usual + 1, prompt))
    write_rows(rows, ["photo", *[_SHORT[name] for name in methods] * len(shown)], file)


def write_sweep(name: str, results: Results, folder: Path, file: Path) -> None:
    """Write the sweep `name` of one concept file for each subject, by the bias β."""
    shown, ours = _shown(results), results[name]
    dials = [f"{row['dial']:g}" for row in ours[0]["rows"]]
    rows: Rows = {}
    for subject in (our["subject"] for our in ours):
        kept = kept_in(folder, name, [subject])
        rows[subject] = [_cut(kept, 0, 0)]
        rows[subject] += [_cut(kept, k + 1, prompt) for prompt in shown for k in range(len(dials))]
    write_rows(rows, ["photo", *dials * len(shown)], file)


def write_attention(found: Found, folder: Path, file: Path) -> None:
    """Write figure 1: images, and next to each where the subject's word acts."""
    rows: Rows = {}
    for subject in (result["subject"] for result in found):
        kept = kept_in(folder, "attention", [subject])
        for k, name in enumerate(METHODS):
            rows[f"{subject},\n{_SHORT[name]}"] = [
                _cut(kept, k, x) for x in range(2 * len(PROMPTS))
            ]
    write_rows(rows, [], file)


def write_composition(title: str, sets: Found, folder: Path, file: Path) -> None:
    """Write figure 4: a photo of each subject, and every image of them together."""
    rows: Rows = {}
    for result in sets:
        names, kept = result["subjects"], kept_in(folder, title, result["subjects"])
        images = [_cut(kept, 0, x) for x in range(len(result["images"]))]
        rows["\n".join(names)] = [*(_photo(name, images[0].width) for name in names), *images]
    write_rows(rows, [], file)


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
    page.save(file, quality=80, method=6)  # a third of the bytes, and no visible difference


def _photo(name: str, side: int) -> Image.Image:
    (subject,) = (subject for subject in (*REPORTED, *TUNED) if subject.name == name)
    return photograph(subject, side=side)[0].picture


def _cut(kept: Path, row: int, column: int) -> Image.Image:
    return cut(kept.with_suffix(".png"), row, column)

"""Sheets for fresh eyes: shuffled images without names or methods.

`eyes-N.png` has numbered images, `photos.png` a photo of every subject, and `key.json` the answers
in the order of the numbers.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image, ImageDraw

from benchmarks.paper.contact import cut

KEY = "key.json"
_SIDE = 224  # of an image on a sheet, in pixels
_ACROSS, _DOWN = 4, 4
_LABEL = 20  # pixels above each image


def write_eyes(composed: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path, to: Path) -> None:
    """Write a quarter of all composed images to the folder `to`.

    An answer is what the image is meant to show, and by which method.
    """
    photos: dict[str, Image.Image] = {}
    images: list[tuple[Any, Image.Image]] = []
    for title, sets in composed.items():
        for result in sets:
            file = folder / result["sheet"]
            for k, name in enumerate(result["subjects"]):
                photos[name] = cut(file, 0, k)
            for number, image in enumerate(result["images"]):
                told = {"composition": title, "subjects": result["subjects"]}
                images.append(({**told, "prompt": image["prompt"]}, cut(file, 1, number)))
    write_shuffled(images, photos, to, share=0.25)


def write_shuffled(
    images: Sequence[tuple[Any, Image.Image]],
    photos: Mapping[str, Image.Image],
    to: Path,
    *,
    share: float = 1.0,
) -> None:
    """Write a share of the images, each with its answer, to the folder `to`."""
    to.mkdir(parents=True, exist_ok=True)
    for earlier in to.glob("eyes-*.png"):
        earlier.unlink()
    order = list(images)
    Random(0).shuffle(order)
    order = order[: round(share * len(order))]
    on_a_sheet = _ACROSS * _DOWN
    for begin in range(0, len(order), on_a_sheet):
        part = order[begin : begin + on_a_sheet]
        numbered = [(str(begin + k + 1), image) for k, (_, image) in enumerate(part)]
        _sheet(numbered).save(to / f"eyes-{begin // on_a_sheet + 1}.png")
    _sheet(sorted(photos.items())).save(to / "photos.png")
    (to / KEY).write_text(json.dumps([answer for answer, _ in order], indent=1))


def _sheet(labelled: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    rows = -(-len(labelled) // _ACROSS)
    step = _SIDE + 6
    sheet = Image.new("RGB", (_ACROSS * step, rows * (step + _LABEL)), "white")
    pen = ImageDraw.Draw(sheet)
    for k, (label, image) in enumerate(labelled):
        left, top = k % _ACROSS * step, k // _ACROSS * (step + _LABEL)
        pen.text((left + 4, top + 2), label, fill="black", font_size=15)
        tile = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        sheet.paste(tile, (left, top + _LABEL))
    return sheet

"""Sheets for fresh eyes: a shuffled quarter of the composed images, without names or methods.

`eyes-N.png` has numbered images, `photos.png` a photo of every subject, and `key.json` the answers:
what each image is meant to show, and by which method.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image, ImageDraw

from benchmarks.paper.contact import cut

_ACROSS, _DOWN = 6, 4
_LABEL = 16  # pixels above each image


def write_eyes(composed: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path, to: Path) -> None:
    """Write the sheets of all compositions to the folder `to`."""
    to.mkdir(parents=True, exist_ok=True)
    photos: dict[str, Image.Image] = {}
    images: list[tuple[Image.Image, dict[str, Any]]] = []
    for title, sets in composed.items():
        for result in sets:
            file = folder / result["sheet"]
            for k, name in enumerate(result["subjects"]):
                photos[name] = cut(file, 0, k)
            for number, image in enumerate(result["images"]):
                told = {"composition": title, "subjects": result["subjects"]}
                images.append((cut(file, 1, number), {**told, "prompt": image["prompt"]}))
    Random(0).shuffle(images)
    images = images[: -(-len(images) // 4)]
    on_a_sheet = _ACROSS * _DOWN
    for begin in range(0, len(images), on_a_sheet):
        part = images[begin : begin + on_a_sheet]
        numbered = [(str(begin + k + 1), image) for k, (image, _) in enumerate(part)]
        _sheet(numbered).save(to / f"eyes-{begin // on_a_sheet + 1}.png")
    _sheet(sorted(photos.items())).save(to / "photos.png")
    (to / "key.json").write_text(json.dumps([told for _, told in images], indent=1))


def _sheet(labelled: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    side = labelled[0][1].width
    rows = -(-len(labelled) // _ACROSS)
    sheet = Image.new("RGB", (_ACROSS * (side + 4), rows * (side + _LABEL)), "white")
    pen = ImageDraw.Draw(sheet)
    for k, (label, image) in enumerate(labelled):
        left, top = k % _ACROSS * (side + 4), k // _ACROSS * (side + _LABEL)
        pen.text((left + 2, top + 2), label, fill="black")
        sheet.paste(image, (left, top + _LABEL))
    return sheet

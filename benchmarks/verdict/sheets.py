"""Sheets for people to label: photos above, images below, without names and figures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from benchmarks.verdict.concepts import PROMPTS

KEY_FILE, LABELS_FILE = "key.json", "labels.json"
_SIDE = 256  # of an image on a sheet, in pixels
_PHOTO_SIDE = 200
_COLUMNS = 4
_GAP, _NUMBER = 6, 22


def write_sheets(
    shown: Mapping[str, tuple[Sequence[Image.Image], Sequence[Image.Image]]],
    folder: Path,
    *,
    shuffle: int,
) -> None:
    """Write a sheet of each concept's photos and images, with the key and labels to fill in.

    The order of the sheets, and of the images on each, is shuffled. Concepts that have a sheet keep
    it, and its labels; others get further sheets.
    """
    key = _read(folder / KEY_FILE)
    labels = _read(folder / LABELS_FILE)
    names = sorted(set(shown) - {listed["name"] for listed in key.values()})
    chance = Random(f"{shuffle} {len(key)}")
    chance.shuffle(names)
    for number, name in enumerate(names, start=len(key) + 1):
        photos, images = shown[name]
        order = list(range(len(images)))
        chance.shuffle(order)
        sheet = f"sheet-{number:02}"
        page(photos, [images[k] for k in order]).save(folder / f"{sheet}.png")
        key[sheet] = {"name": name, "images": order}
        labels[sheet] = [None] * len(PROMPTS)
    (folder / LABELS_FILE).write_text(json.dumps(labels, indent=1))
    (folder / KEY_FILE).write_text(json.dumps(key, indent=1))


def read_labels(folder: Path) -> dict[str, tuple[bool, ...]]:
    """Return what people said of each concept's images, in PROMPTS' order; ValueError for gaps."""
    key = json.loads((folder / KEY_FILE).read_text())
    told = json.loads((folder / LABELS_FILE).read_text())
    labels = {}
    for sheet, of in key.items():
        said = told.get(sheet)
        if not isinstance(said, list) or [type(answer) for answer in said] != [bool] * len(PROMPTS):
            raise ValueError(
                f"{folder / LABELS_FILE}: {sheet} needs true or false for each of its "
                f"{len(PROMPTS)} images: is it this very object?"
            )
        by_image = dict(zip(of["images"], said, strict=True))
        labels[of["name"]] = tuple(by_image[k] for k in range(len(PROMPTS)))
    return labels


def page(photos: Sequence[Image.Image], images: Sequence[Image.Image]) -> Image.Image:
    """Draw the photos in a row, and below them the numbered images."""
    rows = -(-len(images) // _COLUMNS)
    width = _GAP + max(_COLUMNS * (_SIDE + _GAP), len(photos) * (_PHOTO_SIDE + _GAP))
    top = _PHOTO_SIDE + 3 * _GAP
    sheet = Image.new("RGB", (width, top + rows * (_SIDE + _NUMBER + _GAP)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    for k, photo in enumerate(photos):
        sheet.paste(_resized(photo, _PHOTO_SIDE), (_GAP + k * (_PHOTO_SIDE + _GAP), _GAP))
    pen.line((0, _PHOTO_SIDE + 2 * _GAP, width, _PHOTO_SIDE + 2 * _GAP), fill="black", width=2)
    for k, image in enumerate(images):
        left = _GAP + k % _COLUMNS * (_SIDE + _GAP)
        upper = top + k // _COLUMNS * (_SIDE + _NUMBER + _GAP)
        pen.text((left, upper), str(k + 1), fill="black", font=font)
        sheet.paste(_resized(image, _SIDE), (left, upper + _NUMBER))
    return sheet


def _read(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text())) if file.is_file() else {}


def _resized(image: Image.Image, side: int) -> Image.Image:
    return image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)

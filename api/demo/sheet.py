"""The contact sheet: rows of images with a line of text above each."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

_CELL_PIXELS = 160
_GAP = 8
_TEXT_PIXELS = 20
_PAPER, _INK = "#ffffff", "#22252a"


@dataclass(frozen=True)
class Row:
    """Images side by side, each under its caption, all under a title."""

    title: str
    images: Sequence[Image.Image]
    captions: Sequence[str]


def draw(rows: Sequence[Row]) -> Image.Image:
    """All rows on one sheet."""
    columns = max(len(row.images) for row in rows)
    row_height = 2 * _TEXT_PIXELS + _CELL_PIXELS + 2 * _GAP
    size = (columns * (_CELL_PIXELS + _GAP) + _GAP, len(rows) * row_height + _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    bold, small = ImageFont.load_default(15), ImageFont.load_default(12)
    for k, row in enumerate(rows):
        top = k * row_height + _GAP
        pen.text((_GAP, top), row.title, fill=_INK, font=bold)
        for column, (image, caption) in enumerate(zip(row.images, row.captions, strict=True)):
            left = _GAP + column * (_CELL_PIXELS + _GAP)
            pen.text((left, top + _TEXT_PIXELS), caption, fill=_INK, font=small)
            cell = image.convert("RGB").resize((_CELL_PIXELS, _CELL_PIXELS), _filter(image))
            sheet.paste(cell, (left, top + 2 * _TEXT_PIXELS))
    return sheet


def _filter(image: Image.Image) -> Image.Resampling:
    return Image.Resampling.LANCZOS if image.width > _CELL_PIXELS else Image.Resampling.BICUBIC

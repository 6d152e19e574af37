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
    """A row of the sheet: a title above images next to each other, each below its caption."""

    title: str
    images: Sequence[Image.Image]
    captions: Sequence[str]


def draw(rows: Sequence[Row]) -> Image.Image:
    """Draw all rows on one sheet."""
    width = max(len(row.images) for row in rows) * (_CELL_PIXELS + _GAP) + _GAP
    heights = [_height(row) for row in rows]
    sheet = Image.new("RGB", (width, sum(heights) + _GAP), _PAPER)
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        _draw_row(sheet, row, top=top)
        top += height
    return sheet


def _draw_row(sheet: Image.Image, row: Row, *, top: int) -> None:
    pen = ImageDraw.Draw(sheet)
    bold, small = ImageFont.load_default(15), ImageFont.load_default(12)
    pen.text((_GAP, top), row.title, fill=_INK, font=bold)
    below_text = top + _height(row) - _CELL_PIXELS - 2 * _GAP
    for column, (image, caption) in enumerate(zip(row.images, row.captions, strict=True)):
        left = _GAP + column * (_CELL_PIXELS + _GAP)
        pen.text((left, top + _TEXT_PIXELS), caption, fill=_INK, font=small)
        cell = image.convert("RGB").resize((_CELL_PIXELS, _CELL_PIXELS), _filter(image))
        sheet.paste(cell, (left, below_text))


def _height(row: Row) -> int:
    lines = 2 if any(row.captions) else 1
    return lines * _TEXT_PIXELS + _CELL_PIXELS + 2 * _GAP


def _filter(image: Image.Image) -> Image.Resampling:
    return Image.Resampling.LANCZOS if image.width > _CELL_PIXELS else Image.Resampling.BICUBIC

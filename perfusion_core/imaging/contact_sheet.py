"""A contact sheet: the images of a grid with the names and values of its axes.

With one axis the images follow each other in lines, each below its value. With two axes the first
axis has the columns, and the second axis the rows.
"""

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from PIL import Image, ImageDraw, ImageFont

MOST_PIXELS = 256
"""The longest side of an image on a sheet of few images, in pixels."""

_LEAST_PIXELS = 112
_SHEET_PIXELS = 2048  # what the images of a sheet may take before they get smaller
_COLUMNS = 8  # of a sheet with one axis
_GAP, _MARGIN = 8, 20
_TITLE, _NAME, _VALUE = 1.2, 1.05, 1.0  # sizes of letters, relative to the values' letters
_LETTERS, _LETTERS_PER_ROW = 14, 80  # the fewest pixels of a letter; a row of images is this wide
_LINE = 1.3  # the height of a line of text, in letters
_LINES_ABOVE, _LINES_ASIDE = 3, 5
_ASIDE_LETTERS = 11  # the widest label of a row
_PAPER, _INK, _PALE, _EMPTY = "#ffffff", "#22252a", "#6b7280", "#eef0f3"
_ELLIPSIS = "…"
_COMMON_WORDS = 3  # the fewest words that all labels begin with and that are left out


@dataclass(frozen=True)
class Axis:
    """The name of an axis, which may be empty, and its values as text."""

    name: str
    values: Sequence[str]

    @classmethod
    def of(cls, name: str, values: Sequence[int | float | str]) -> Self:
        """Return an axis whose numbers are written as short as they can be."""
        written = [f"{each:g}" if isinstance(each, float) else str(each) for each in values]
        return cls(name, written)


ImageAt = Callable[[int, int, tuple[int, int]], Image.Image | None]
"""Return the image of a column and a row that fits into a size; None leaves the cell empty."""


def draw(
    axes: Sequence[Axis], image_at: ImageAt, *, image_size: tuple[int, int], title: str = ""
) -> Image.Image:
    """Draw a sheet of one or two axes; `image_size` is the images' own width and height."""
    values = [_distinct(axis.values) for axis in axes]
    two = len(axes) == 2
    columns = len(values[0]) if two else min(len(values[0]), _COLUMNS)
    rows = len(values[1]) if two else math.ceil(len(values[0]) / columns)
    size = _cell_size(image_size, columns=columns, rows=rows)
    letters = max(_LETTERS, columns * (size[0] + _GAP) // _LETTERS_PER_ROW)
    value_text, name_text = _Text(letters), _Text(letters * _NAME)
    above = [value_text.wrapped(value, width=size[0], most=_LINES_ABOVE) for value in values[0]]
    aside = [
        value_text.wrapped(value, width=letters * _ASIDE_LETTERS, most=_LINES_ASIDE)
        for value in (values[1] if two else ())
    ]
    left, top = _MARGIN, _MARGIN
    if two:
        lines = [*(line for label in aside for line in label)]
        widths = [name_text.width(axes[1].name), *map(value_text.width, lines)]
        left += math.ceil(max(widths)) + 2 * _GAP
    width = left + columns * (size[0] + _GAP) - _GAP + _MARGIN
    title_text = _Text(letters * _TITLE)
    headings = title_text.wrapped(_plain(title), width=width - 2 * _MARGIN, most=2) if title else []
    top += title_text.height(headings) + (_GAP if headings else 0)
    names_top = top
    label_height = value_text.height(max(above, key=len)) + _GAP // 2
    first = (
        top + name_text.height([axes[0].name] if axes[0].name else []) + _GAP // 2 + label_height
    )
    step = size[1] + _GAP + (0 if two else label_height)
    sheet = Image.new("RGB", (width, first + rows * step - (step - size[1]) + _MARGIN), _PAPER)
    pen = ImageDraw.Draw(sheet)
    title_text.write(pen, (_MARGIN, _MARGIN), headings)
    name_text.write(pen, (left, names_top), [axes[0].name], ink=_PALE)
    if two:
        name_text.write(pen, (_MARGIN, names_top), [axes[1].name], ink=_PALE)
    for index in range(columns * rows if two else len(values[0])):
        column, row = index % columns, index // columns
        x, y = left + column * (size[0] + _GAP), first + row * step
        if two and column == 0:
            middle = y + (size[1] - value_text.height(aside[row])) // 2
            value_text.write(pen, (_MARGIN, middle), aside[row])
        if row == 0 or not two:
            label = above[column if two else index]
            value_text.write(pen, (x, y - _GAP // 2 - value_text.height(label)), label)
        image = image_at(column, row, size) if two else image_at(index, 0, size)
        if image is None:
            pen.rectangle((x, y, x + size[0] - 1, y + size[1] - 1), fill=_EMPTY)
        else:
            inside = (x + (size[0] - image.width) // 2, y + (size[1] - image.height) // 2)
            sheet.paste(image.convert("RGB"), inside)
    return sheet


def stack(sheets: Sequence[Image.Image]) -> Image.Image:
    """Return sheets below each other, as one."""
    height = sum(sheet.height for sheet in sheets)
    stacked = Image.new("RGB", (max(sheet.width for sheet in sheets), height), _PAPER)
    top = 0
    for sheet in sheets:
        stacked.paste(sheet, (0, top))
        top += sheet.height
    return stacked


def fit(image: Image.Image, *, size: tuple[int, int]) -> Image.Image:
    """Return the image, enlarged or shrunk so that it just fits into `size`."""
    scale = min(size[0] / image.width, size[1] / image.height)
    own = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    resampling = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    return image.convert("RGB").resize(own, resampling)


def _cell_size(image_size: tuple[int, int], *, columns: int, rows: int) -> tuple[int, int]:
    """Return the width and height of a cell: the images' aspect, smaller on a sheet of many."""
    longest = max(_LEAST_PIXELS, min(MOST_PIXELS, _SHEET_PIXELS // max(columns, rows)))
    scale = longest / max(image_size)
    return max(_LEAST_PIXELS // 2, round(image_size[0] * scale)), max(
        _LEAST_PIXELS // 2, round(image_size[1] * scale)
    )


def _distinct(values: Sequence[str]) -> list[str]:
    """Return the values in letters of the font, each without words that all of them begin with."""
    words = [_plain(value).split() for value in values]
    common = 0
    while len(values) > 1 and all(
        len(own) > common + 1 and own[common] == words[0][common] for own in words
    ):
        common += 1
    if common < _COMMON_WORDS:
        return [" ".join(own) for own in words]
    return [" ".join([_ELLIPSIS, *own[common:]]) for own in words]


def _plain(text: str) -> str:
    """Return text in ASCII, because Pillow's own font has no other letters."""
    letters = unicodedata.normalize("NFKD", text)
    return "".join(
        letter if letter.isascii() else "?"
        for letter in letters
        if not unicodedata.combining(letter)
    )


class _Text:
    """Text in letters of one size."""

    def __init__(self, letters: float) -> None:
        self._font = ImageFont.load_default(letters)
        self._line = letters * _LINE

    def width(self, line: str) -> float:
        """Return the width of a line in pixels."""
        return self._font.getlength(line)

    def height(self, lines: Sequence[str]) -> int:
        """Return the height of lines in pixels."""
        return round(len(lines) * self._line)

    def write(
        self,
        pen: ImageDraw.ImageDraw,
        place: tuple[int, int],
        lines: Sequence[str],
        *,
        ink: str = _INK,
    ) -> None:
        """Write lines below each other."""
        for number, line in enumerate(lines):
            at = (place[0], place[1] + round(number * self._line))
            pen.text(at, line, fill=ink, font=self._font)

    def wrapped(self, text: str, *, width: float, most: int) -> list[str]:
        """Return the lines of a text; the last one ends with an ellipsis if there are too many."""
        lines: list[str] = []
        rest = text.split()
        while rest and len(lines) < most:
            line = rest.pop(0)
            while rest and self.width(f"{line} {rest[0]}") <= width:
                line += f" {rest.pop(0)}"
            is_cut = bool(rest) and len(lines) == most - 1
            lines.append(self._cut(line, width=width, is_cut=is_cut))
        return lines or [""]

    def _cut(self, line: str, *, width: float, is_cut: bool) -> str:
        whole = line
        end = _ELLIPSIS if is_cut else ""
        while line and self.width(line + end) > width:
            line, end = line[:-1], _ELLIPSIS
        return line.rstrip() + end if line else whole[:1] + _ELLIPSIS

"""Contact sheets: rows of images of one size, saved with a result and cut up again.

They are PNGs, since figures are measured on them; sheets.py writes those of the documents.
"""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

_GAP_PIXELS = 2
_SIDE = "side"  # what the PNG says of its images


def write(rows: Sequence[Sequence[Image.Image]], file: Path) -> None:
    """Write rows of images of one size as `file`, a PNG that knows their size."""
    side = rows[0][0].width
    step = side + _GAP_PIXELS
    sheet = Image.new("RGB", (step * max(map(len, rows)), step * len(rows)), "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            sheet.paste(image.convert("RGB"), (step * x, step * y))
    told = PngInfo()
    told.add_text(_SIDE, str(side))
    sheet.save(file, "PNG", pnginfo=told)


def cut(file: Path, row: int, column: int) -> Image.Image:
    """One image of the sheet that was written as `file`, as it was drawn."""
    with Image.open(file) as kept:
        side = int(kept.info[_SIDE])
        left, top = column * (side + _GAP_PIXELS), row * (side + _GAP_PIXELS)
        return kept.crop((left, top, left + side, top + side))

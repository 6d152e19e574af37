"""The sheet of a concept: the images of its curve side by side. Does not import torch."""

import io

from PIL import Image, ImageDraw, ImageFont

from perfusion_core.concept import Concept
from perfusion_core.evaluation.curve import recommended

_SIDE, _GAP, _LABEL = 128, 4, 18  # pixels
_FONT_PIXELS = 12


def draw_sheet(concept: Concept) -> bytes | None:
    """Return a PNG of the images at each bias β, or None for a concept without a curve.

    The recommended bias is marked. Equal concepts give equal bytes with equal libraries. The
    concept's thumbnails must come from a trusted reader, since they are decoded here.
    """
    found = concept.evaluation
    if found is None or found.curve is None:
        return None
    points, best = found.curve.points, recommended(found.curve)
    step = _SIDE + _GAP
    sheet = Image.new("RGB", (step * len(points) - _GAP, _SIDE + _LABEL), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_PIXELS)
    for k, (point, data) in enumerate(zip(points, found.thumbnails, strict=True)):
        with Image.open(io.BytesIO(data), formats=("WEBP",)) as opened:
            image = opened.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        sheet.paste(image, (step * k, 0))
        label = f"β = {point.beta:.2f}{', best' if point == best else ''}"
        pen.text((step * k + _SIDE // 2, _SIDE + 2), label, fill="black", font=font, anchor="ma")
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()

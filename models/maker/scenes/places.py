"""Backgrounds: several drawings of every place from one seed, drawn at twice their size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from models.maker.scenes.catalogue import PLACES

Rgb = tuple[int, int, int]
Rng = np.random.Generator
Box = tuple[float, float, float, float]  # left, top, right, bottom
SIDE = 128  # pixels of a finished picture; the painters use the same coordinates
_SCALE = 2  # the canvas of the painters is this many times larger
VARIANTS = 64


def draw_places(seed: int, variants: int = VARIANTS) -> npt.NDArray[np.uint8]:
    """Draw all places, (places, variants, 128, 128, 3), in the catalogue's order."""
    pictures = []
    for place_index, place in enumerate(PLACES):
        for variant in range(variants):
            rng = np.random.default_rng([seed, place_index, variant])
            picture = Image.new("RGB", (SIDE * _SCALE, SIDE * _SCALE))
            _PAINTERS[place](picture, Pen(picture), rng)
            pictures.append(np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX)))
    return np.stack(pictures).reshape(len(PLACES), variants, SIDE, SIDE, 3)


class Pen:
    """Draw on a larger canvas in the coordinates of the finished picture."""

    def __init__(self, picture: Image.Image) -> None:
        self._draw = ImageDraw.Draw(picture)

    def ellipse(self, box: Box, fill: Rgb) -> None:
        """Fill the ellipse in a box, including its last row and column."""
        self._draw.ellipse(_scaled(box), fill=fill)

    def rectangle(self, box: Box, fill: Rgb) -> None:
        """Fill a box, including its last row and column."""
        self._draw.rectangle(_scaled(box), fill=fill)

    def polygon(self, points: Sequence[tuple[float, float]], fill: Rgb) -> None:
        """Fill the area that the points enclose."""
        self._draw.polygon([(x * _SCALE, y * _SCALE) for x, y in points], fill=fill)

    def arc(self, box: Box, start: float, end: float, *, fill: Rgb, width: int) -> None:
        """Draw a part of the ellipse in a box, between two angles in degrees."""
        self._draw.arc(_scaled(box), start, end, fill=fill, width=width * _SCALE)


def _scaled(box: Box) -> Box:
    left, top, right, bottom = (edge * _SCALE for edge in box)
    return left, top, right + _SCALE - 1, bottom + _SCALE - 1


def _near(rng: Rng, colour: Rgb, spread: int = 14) -> Rgb:
    red, green, blue = (int(np.clip(c + rng.integers(-spread, spread + 1), 0, 255)) for c in colour)
    return red, green, blue


def _gradient(picture: Image.Image, top: Rgb, bottom: Rgb, first: int, last: int) -> None:
    share = np.linspace(0, 1, max(last - first, 1) * _SCALE)[:, None, None]
    rows = np.array(top) * (1 - share) + np.array(bottom) * share
    strip = np.broadcast_to(rows, (len(rows), SIDE * _SCALE, 3)).astype(np.uint8)
    picture.paste(Image.fromarray(np.ascontiguousarray(strip)), (0, first * _SCALE))


def _disc(draw: Pen, x: int, y: int, radius: int, colour: Rgb) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _dots(draw: Pen, rng: Rng, count: int, last_row: int, colour: Rgb, radius: int = 1) -> None:
    for _ in range(count):
        _disc(draw, int(rng.integers(SIDE)), int(rng.integers(last_row)), radius, colour)


def _hills(draw: Pen, rng: Rng, base: int, height: int, colour: Rgb) -> None:
    phase, waves = rng.uniform(0, 6.3), rng.uniform(1.0, 2.2)
    columns = np.arange(0, SIDE + 2, 2)
    rows = base - height * (1 + np.sin(phase + columns / SIDE * 6.3 * waves)) / 2
    outline = [(float(x), float(y)) for x, y in zip(columns, rows, strict=True)]
    draw.polygon([(0.0, SIDE), *outline, (SIDE, SIDE)], fill=colour)


def _beach(picture: Image.Image, draw: Pen, rng: Rng) -> None:
    shore = int(rng.integers(66, 80))
    _gradient(picture, _near(rng, (120, 196, 240)), (206, 234, 248), 0, 48)
    _gradient(picture, _near(rng, (40, 140, 200)), _near(rng, (96, 200, 214)), 48, shore + 6)
    _disc(draw, int(rng.integers(10, 118)), int(rng.integers(8, 26)), 9, (255, 226, 110))
    _hills(draw, rng, shore + 6, 6, (244, 246, 240))
    _hills(draw, rng, shore + 10, 6, _near(rng, (238, 212, 150)))
    _dots(draw, rng, 0, SIDE, (220, 190, 130))


def _snow(picture: Image.Image, draw: Pen, rng: Rng) -> None:
    _gradient(picture, _near(rng, (168, 198, 226)), (226, 236, 246), 0, 90)
    for _ in range(int(rng.integers(2, 6))):
        x, y = int(rng.integers(SIDE)), int(rng.integers(62, 74))
        draw.polygon([(x - 9, y), (x, y - 26), (x + 9, y)], fill=_near(rng, (70, 116, 104)))
    _hills(draw, rng, 74, 12, (222, 232, 244))
    _hills(draw, rng, 88, 10, (246, 249, 254))
    _dots(draw, rng, 26, SIDE, (255, 255, 255))


def _grass(picture: Image.Image, draw: Pen, rng: Rng) -> None:
    _gradient(picture, _near(rng, (128, 200, 246)), (214, 238, 250), 0, 80)
    for _ in range(int(rng.integers(1, 4))):
        x, y = int(rng.integers(SIDE)), int(rng.integers(8, 34))
        for step in (-9, 0, 9):
            _disc(draw, x + step, y, 8 - abs(step) // 4, (250, 252, 255))
    _hills(draw, rng, 76, 14, _near(rng, (142, 204, 92)))
    _hills(draw, rng, 92, 8, _near(rng, (96, 176, 66)))
    for _ in range(14):
        x, y = int(rng.integers(SIDE)), int(rng.integers(94, SIDE))
        _disc(draw, x, y, 2, ((255, 240, 120), (255, 255, 255), (244, 150, 170))[x % 3])


def _night(picture: Image.Image, draw: Pen, rng: Rng) -> None:
    _gradient(picture, _near(rng, (12, 16, 48), 8), _near(rng, (40, 48, 104)), 0, 100)
    _dots(draw, rng, 22, 84, (236, 236, 210))
    x, y = int(rng.integers(14, 114)), int(rng.integers(14, 34))
    _disc(draw, x, y, 11, (246, 240, 200))
    if rng.random() < 0.5:
        _disc(draw, x + 5, y - 3, 10, (18, 22, 60))
    _hills(draw, rng, 98, 14, _near(rng, (22, 32, 46), 6))


def _desert(picture: Image.Image, draw: Pen, rng: Rng) -> None:
    _gradient(picture, _near(rng, (250, 206, 130)), (254, 232, 190), 0, 80)
    _disc(draw, int(rng.integers(12, 116)), int(rng.integers(10, 30)), 10, (255, 246, 200))
    _hills(draw, rng, 76, 18, _near(rng, (226, 160, 84)))
    _hills(draw, rng, 92, 14, _near(rng, (212, 136, 66)))
    _hills(draw, rng, 112, 12, _near(rng, (196, 118, 56)))


def _sea(picture: Image.Image, draw: Pen, rng: Rng) -> None:
    horizon = int(rng.integers(34, 50))
    _gradient(picture, _near(rng, (150, 208, 244)), (220, 240, 250), 0, horizon)
    _gradient(picture, _near(rng, (28, 110, 190)), _near(rng, (16, 70, 150)), horizon, SIDE)
    for row in range(horizon + 8, SIDE, 13):
        shift = int(rng.integers(24))
        for x in range(-shift, SIDE, 24):
            draw.arc((x, row, x + 16, row + 8), 200, 340, fill=(140, 196, 236), width=2)


def _room(picture: Image.Image, draw: Pen, rng: Rng) -> None:
    wall = ((236, 214, 190), (206, 220, 214), (222, 206, 226), (240, 228, 176))
    floor = int(rng.integers(84, 96))
    draw.rectangle((0, 0, SIDE, floor), fill=_near(rng, wall[int(rng.integers(4))]))
    _gradient(picture, _near(rng, (166, 112, 70)), _near(rng, (134, 86, 52)), floor, SIDE)
    draw.rectangle((0, floor - 5, SIDE, floor), fill=(250, 246, 238))
    x = int(rng.integers(6, 82))
    draw.rectangle((x, 12, x + 40, 52), fill=(252, 250, 244))
    draw.rectangle((x + 4, 16, x + 18, 48), fill=_near(rng, (160, 210, 240)))
    draw.rectangle((x + 22, 16, x + 36, 48), fill=_near(rng, (160, 210, 240)))


def _forest(picture: Image.Image, draw: Pen, rng: Rng) -> None:
    _gradient(picture, _near(rng, (52, 104, 64)), _near(rng, (112, 160, 96)), 0, 100)
    for x in range(int(rng.integers(-8, 8)), SIDE, int(rng.integers(17, 26))):
        x += int(rng.integers(-4, 5))
        wide = int(rng.integers(5, 11))
        draw.rectangle((x, 0, x + wide, 104), fill=_near(rng, (82, 58, 40)))
    for _ in range(12):
        x, y = int(rng.integers(SIDE)), int(rng.integers(0, 22))
        _disc(draw, x, y, int(rng.integers(8, 15)), _near(rng, (34, 84, 46)))
    _hills(draw, rng, 100, 8, _near(rng, (60, 98, 46)))


def _city(picture: Image.Image, draw: Pen, rng: Rng) -> None:
    _gradient(picture, _near(rng, (164, 196, 224)), (230, 232, 236), 0, 100)
    x = -int(rng.integers(10))
    while x < SIDE:
        wide, top = int(rng.integers(18, 30)), int(rng.integers(14, 56))
        draw.rectangle((x, top, x + wide, 104), fill=_near(rng, (112, 118, 138), 26))
        for row in range(top + 5, 96, 11):
            for column in range(x + 4, x + wide - 4, 8):
                draw.rectangle((column, row, column + 3, row + 5), fill=(246, 226, 150))
        x += wide + 1
    draw.rectangle((0, 102, SIDE, SIDE), fill=_near(rng, (92, 94, 100), 8))
    for x in range(int(rng.integers(16)), SIDE, 30):
        draw.rectangle((x, 114, x + 14, 117), fill=(240, 240, 230))


def _mountains(picture: Image.Image, draw: Pen, rng: Rng) -> None:
    _gradient(picture, _near(rng, (126, 186, 232)), (222, 236, 246), 0, 90)
    for centre in (int(rng.integers(10, 40)), int(rng.integers(88, 120)), 64):
        top = int(rng.integers(14, 38))
        half = int(rng.integers(38, 56))
        draw.polygon(
            [(centre - half, 92), (centre, top), (centre + half, 92)],
            fill=_near(rng, (110, 112, 134)),
        )
        cap = half * 18 // (92 - top)
        draw.polygon(
            [(centre - cap, top + 18), (centre, top), (centre + cap, top + 18)],
            fill=(248, 250, 252),
        )
    _hills(draw, rng, 92, 8, _near(rng, (104, 156, 88)))


def _space(picture: Image.Image, draw: Pen, rng: Rng) -> None:
    _gradient(picture, _near(rng, (8, 6, 20), 6), _near(rng, (34, 16, 58), 10), 0, SIDE)
    _dots(draw, rng, 50, SIDE, (230, 230, 250))
    planets = ((214, 120, 80), (110, 170, 220), (190, 150, 220), (230, 200, 120))
    for _ in range(int(rng.integers(1, 3))):
        x, y = int(rng.integers(SIDE)), int(rng.choice([14, 26, 104, 116]))
        radius = int(rng.integers(8, 16))
        _disc(draw, x, y, radius, _near(rng, planets[int(rng.integers(4))]))


def _sunset(picture: Image.Image, draw: Pen, rng: Rng) -> None:
    horizon = int(rng.integers(80, 92))
    _gradient(picture, _near(rng, (92, 52, 120)), _near(rng, (240, 110, 80)), 0, 52)
    _gradient(picture, _near(rng, (240, 110, 80), 4), (254, 204, 96), 52, horizon)
    _disc(draw, int(rng.integers(24, 104)), horizon - 4, 15, (255, 236, 150))
    _gradient(picture, _near(rng, (120, 52, 84)), _near(rng, (60, 30, 66)), horizon, SIDE)


_PAINTERS: dict[str, Callable[[Image.Image, Pen, Rng], None]] = {
    "beach": _beach,
    "snow": _snow,
    "grass": _grass,
    "night": _night,
    "desert": _desert,
    "sea": _sea,
    "room": _room,
    "forest": _forest,
    "city": _city,
    "mountains": _mountains,
    "space": _space,
    "sunset": _sunset,
}

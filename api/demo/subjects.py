"""The demo's sample photos: two toys, each in five scenes, with their masks, and an empty scene.

The shipped base model was not trained on these two toys: the model's card lists both toys as held
out.
"""

import random
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

SIDE_PIXELS = 256
_ART = Path(__file__).parent / "art"
_CANVAS = 512  # drawn large and shrunk, which smooths the edges
_PHOTOS = 5

Colour = tuple[int, int, int]
_SCENES: tuple[tuple[Colour, Colour], ...] = (
    ((150, 205, 240), (238, 214, 160)),  # sky, sand
    ((150, 205, 240), (96, 170, 80)),  # sky, lawn
    ((236, 236, 230), (236, 236, 230)),  # a white sheet
    ((230, 205, 180), (150, 110, 80)),  # wall, table
    ((205, 220, 235), (246, 248, 252)),  # winter sky, snow
)


@dataclass(frozen=True)
class Subject:
    """A toy to teach: the concept's name, and its superclass, which also names its picture file."""

    name: str
    superclass: str


@dataclass(frozen=True)
class Photo:
    """A photo of a subject, and the mask of the subject."""

    picture: Image.Image  # RGB
    mask: Image.Image  # L, white is the subject


def photograph(subject: Subject) -> list[Photo]:
    """Return five photos of a subject, the same at each call."""
    chance = random.Random(subject.name)  # scenery, no secret
    return [_photo(_sprite(subject), scene, chance) for scene in _SCENES[:_PHOTOS]]


def lawn() -> Image.Image:
    """Return a picture without a toy, to put toys into."""
    return _background(_SCENES[1])


def _sprite(subject: Subject) -> Image.Image:
    return Image.open(_ART / f"{subject.superclass}.png").convert("RGBA")


def _photo(sprite: Image.Image, scene: tuple[Colour, Colour], chance: random.Random) -> Photo:
    picture = _background(scene)
    size = round(_CANVAS * chance.uniform(0.68, 0.78))
    angle = chance.uniform(-7, 7)
    turned = sprite.resize((size, size), Image.Resampling.LANCZOS)
    # Expand the picture, so that the corners, such as an antenna, are not cut off.
    turned = turned.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    overhang = (turned.width - size) // 2
    left = (_CANVAS - size) // 2 + round(chance.uniform(-0.04, 0.04) * _CANVAS)
    top = (_CANVAS - size) // 2 + round(chance.uniform(-0.02, 0.05) * _CANVAS)

    shadow = Image.new("L", picture.size, 0)
    feet = top + round(size * 0.95)
    box = (left + size * 0.2, feet - size * 0.05, left + size * 0.8, feet + size * 0.05)
    ImageDraw.Draw(shadow).ellipse(box, fill=110)
    picture.paste((30, 30, 36), mask=shadow.filter(ImageFilter.GaussianBlur(9)))

    at = (left - overhang, top - overhang)
    picture.paste(turned, at, turned)
    mask = Image.new("L", picture.size, 0)
    mask.paste(turned.getchannel("A"), at)
    small = (SIDE_PIXELS, SIDE_PIXELS)
    return Photo(
        picture=picture.resize(small, Image.Resampling.LANCZOS),
        mask=mask.resize(small, Image.Resampling.LANCZOS),
    )


def _background(scene: tuple[Colour, Colour]) -> Image.Image:
    wall, floor = scene
    picture = Image.new("RGB", (_CANVAS, _CANVAS), wall)
    shade = Image.linear_gradient("L").resize((_CANVAS, _CANVAS)).point(lambda v: v // 6)
    ImageDraw.Draw(picture).rectangle((0, _CANVAS * 0.66, _CANVAS, _CANVAS), fill=floor)
    picture.paste((0, 0, 0), mask=shade)
    return picture.filter(ImageFilter.GaussianBlur(3))


SUBJECTS = (
    Subject("rex", "robot"),
    Subject("bruno", "teddy"),
)

"""The demo's sample photos: two toys drawn here, each in five scenes, with their masks.

No base model has seen them. Both differ from their superclass's usual look in ways that are easy
to recognise at 64 pixels: a pale robot with a dark visor, amber eyes and orange ears; a blue owl
with a yellow face and a peach belly.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFilter

SIDE_PIXELS = 256
_CANVAS = 1024  # drawn large and shrunk, which smooths the edges
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
    """A toy to teach: its concept's name, its superclass, and how to draw it."""

    name: str
    superclass: str
    draw: Callable[[ImageDraw.ImageDraw], None]


@dataclass(frozen=True)
class Photo:
    """A photo of a subject, and where in it the subject is."""

    picture: Image.Image  # RGB
    mask: Image.Image  # L, white is the subject


def photograph(subject: Subject) -> list[Photo]:
    """Five photos of a subject, always the same five."""
    chance = random.Random(subject.name)  # scenery, no secret
    return [_photo(_sprite(subject), scene, chance) for scene in _SCENES[:_PHOTOS]]


def _sprite(subject: Subject) -> Image.Image:
    sprite = Image.new("RGBA", (_CANVAS, _CANVAS), (0, 0, 0, 0))
    subject.draw(ImageDraw.Draw(sprite))
    return sprite


def _photo(sprite: Image.Image, scene: tuple[Colour, Colour], chance: random.Random) -> Photo:
    picture = _background(scene)
    size = round(_CANVAS * chance.uniform(0.68, 0.78))
    turned = sprite.rotate(chance.uniform(-7, 7), Image.Resampling.BICUBIC)
    turned = turned.resize((size, size), Image.Resampling.LANCZOS)
    left = (_CANVAS - size) // 2 + round(chance.uniform(-0.04, 0.04) * _CANVAS)
    top = (_CANVAS - size) // 2 + round(chance.uniform(-0.02, 0.05) * _CANVAS)

    shadow = Image.new("L", picture.size, 0)
    feet = top + round(size * 0.95)
    box = (left + size * 0.2, feet - size * 0.05, left + size * 0.8, feet + size * 0.05)
    ImageDraw.Draw(shadow).ellipse(box, fill=110)
    picture.paste((30, 30, 36), mask=shadow.filter(ImageFilter.GaussianBlur(18)))

    picture.paste(turned, (left, top), turned)
    mask = Image.new("L", picture.size, 0)
    mask.paste(turned.getchannel("A"), (left, top))
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
    return picture.filter(ImageFilter.GaussianBlur(6))


def _robot(draw: ImageDraw.ImageDraw) -> None:
    pale, lilac, dark, amber, orange = "#d9cfec", "#b9a9dc", "#241f3a", "#ffd24a", "#f2762e"
    for x in (96, 856):  # ears
        draw.rounded_rectangle((x, 430, x + 72, 720), 36, fill=orange)
        draw.rectangle((x + 28, 300, x + 44, 440), fill=orange)
        draw.ellipse((x - 4, 236, x + 76, 316), fill=orange)
    draw.rounded_rectangle((400, 110, 624, 260), 60, fill=orange)  # lamp
    draw.rounded_rectangle((150, 200, 874, 930), 150, fill=pale)
    draw.rounded_rectangle((150, 640, 874, 930), 140, fill=lilac)  # chin
    draw.rectangle((150, 600, 874, 780), fill=pale)
    draw.rounded_rectangle((220, 350, 804, 600), 120, fill=dark)  # visor
    for x in (390, 634):
        draw.ellipse((x - 70, 405, x + 70, 545), fill=amber)
    draw.rounded_rectangle((400, 720, 624, 800), 40, fill=dark)


def _owl(draw: ImageDraw.ImageDraw) -> None:
    blue, night, peach, yellow = "#5f86d6", "#3b55a0", "#ffb98a", "#ffd93b"
    dark, orange = "#20242e", "#f2762e"
    for x in (390, 634):  # feet
        draw.ellipse((x - 90, 890, x + 90, 990), fill=orange)
    draw.polygon([(215, 330), (200, 60), (470, 190)], fill=night)  # ears
    draw.polygon([(809, 330), (824, 60), (554, 190)], fill=night)
    draw.ellipse((190, 110, 834, 960), fill=blue)
    draw.ellipse((150, 430, 330, 860), fill=night)  # wings
    draw.ellipse((694, 430, 874, 860), fill=night)
    draw.ellipse((300, 480, 724, 950), fill=peach)
    for x in (390, 634):
        draw.ellipse((x - 140, 220, x + 140, 500), fill=yellow)
        draw.ellipse((x - 76, 284, x + 76, 436), fill=dark)
    draw.polygon([(462, 440), (562, 440), (512, 560)], fill=orange)  # beak


SUBJECTS = (
    Subject("pale-robot", "robot", _robot),
    Subject("blue-owl", "owl", _owl),
)

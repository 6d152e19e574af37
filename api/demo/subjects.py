"""The demo's sample photos: two toys drawn here, each in five scenes, with their masks.

No base model has seen them. Both differ from their superclass's usual look in ways that are easy
to recognise at 64 pixels: a lavender robot with an orange aerial, a mint teddy with a red scarf.
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
    ((201, 222, 236), (148, 118, 92)),  # window, table
    ((240, 232, 214), (122, 158, 96)),  # hedge in the sun, lawn
    ((228, 203, 198), (231, 225, 219)),  # pink wall, white shelf
    ((176, 204, 170), (214, 196, 150)),  # dunes, sand
    ((120, 132, 158), (84, 88, 104)),  # dusk, pavement
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
    lavender, violet, dark, cyan, orange = "#b9a4e6", "#8a72c2", "#2c2440", "#6ff0e4", "#ff8a2a"
    for x in (330, 574):  # legs, feet
        draw.rounded_rectangle((x, 800, x + 120, 960), 30, fill=violet)
        draw.rounded_rectangle((x - 30, 910, x + 150, 985), 36, fill=dark)
    for x in (150, 774):  # arms, hands
        draw.rounded_rectangle((x, 540, x + 100, 780), 48, fill=violet)
        draw.ellipse((x - 15, 740, x + 115, 870), fill=orange)
    draw.rounded_rectangle((240, 510, 784, 850), 80, fill=lavender)
    draw.rounded_rectangle((400, 600, 624, 740), 40, fill=dark)
    for x, colour in ((440, orange), (512, cyan), (584, orange)):
        draw.ellipse((x - 24, 646, x + 24, 694), fill=colour)
    draw.rectangle((500, 90, 524, 190), fill=violet)  # aerial
    draw.ellipse((452, 20, 572, 140), fill=orange)
    draw.rounded_rectangle((200, 170, 824, 530), 110, fill=lavender)
    draw.rounded_rectangle((270, 240, 754, 460), 90, fill=dark)
    for x in (400, 624):
        draw.ellipse((x - 62, 288, x + 62, 412), fill=cyan)


def _teddy(draw: ImageDraw.ImageDraw) -> None:
    mint, pine, cream, dark, red = "#7fdcb8", "#3fa784", "#fff3da", "#1f3b33", "#e2383f"
    for x in (250, 774):  # ears
        draw.ellipse((x - 115, 70, x + 115, 300), fill=mint)
        draw.ellipse((x - 62, 122, x + 62, 246), fill=pine)
    for x in (215, 809):  # arms
        draw.ellipse((x - 105, 560, x + 105, 830), fill=pine)
    for x in (355, 669):  # feet
        draw.ellipse((x - 130, 810, x + 130, 1000), fill=mint)
        draw.ellipse((x - 66, 865, x + 66, 975), fill=cream)
    draw.ellipse((240, 510, 784, 960), fill=mint)
    draw.ellipse((360, 640, 664, 910), fill=cream)
    draw.ellipse((190, 110, 834, 640), fill=mint)
    draw.ellipse((350, 370, 674, 610), fill=cream)
    for x in (385, 639):
        draw.ellipse((x - 44, 290, x + 44, 378), fill=dark)
    draw.ellipse((446, 390, 578, 486), fill=dark)
    draw.arc((430, 440, 594, 570), 20, 160, fill=dark, width=18)
    draw.rounded_rectangle((265, 590, 759, 690), 50, fill=red)  # scarf
    draw.rounded_rectangle((590, 640, 710, 860), 34, fill=red)


SUBJECTS = (
    Subject("lavender-robot", "robot", _robot),
    Subject("mint-teddy", "teddy", _teddy),
)

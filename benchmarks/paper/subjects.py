"""Held-out subjects, their photos and the prompts that they are judged by.

The base model has never seen any of these looks, which its card lists. Hyper-parameters are chosen
on the subjects of TUNED; figures are reported on those of REPORTED, over other scenes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw, ImageFilter, ImageOps

from models.maker.scenes.colouring import draw_outline

_ART = Path(__file__).parent / "art"
_UNITS = 256  # of a photo's side, the unit of its geometry
_SCENES = (  # wall, floor: plain, so that prompts can ask for places that no photo shows
    ("#ece8e1", "#ece8e1"),
    ("#d8e4ee", "#c9d3da"),
    ("#e9d3bd", "#9a7556"),
    ("#cfe3cb", "#86a97d"),
    ("#d9d2ea", "#b6abcf"),
)
_STRIPES = ("#c8553d", "#f2c14e")  # of the wall that all photos of some subjects share
_FLOOR = "#588157"
_BY_THE_WALL, _BY_PEN = "-by-the-wall", "-by-pen"


@dataclass(frozen=True)
class Subject:
    """One look: its name (and art), its superclass, and whether it may wear a hat.

    A subject of the user's has `photos`, each with its mask if there is one.
    """

    name: str
    superclass: str
    wearer: bool = False
    shares_background: bool = False  # all its photos show one striped wall
    outline: float = 0.0  # of the pen that it is drawn with, as a share of its size
    photos: tuple[tuple[Path, Path | None], ...] = ()
    prompts: tuple[str, ...] = ()  # in place of the usual ones

    @property
    def phrase(self) -> str:
        """The superclass with its article."""
        return f"{'an' if self.superclass[0] in 'aeio' else 'a'} {self.superclass}"

    @property
    def art(self) -> Path:
        """The picture that photos without own files show."""
        return _ART / f"{self.name.removesuffix(_BY_THE_WALL).removesuffix(_BY_PEN)}.png"


REPORTED = (
    Subject("teddy-bear", "teddy", wearer=True),
    Subject("taxi", "car"),
    Subject("owl", "owl", wearer=True),
    Subject("top-hat", "hat"),
    Subject("cat", "cat", wearer=True),
    Subject("robot", "robot", wearer=True),
    Subject("tropical-fish", "fish"),
    Subject("rabbit-face", "rabbit", wearer=True),
    Subject("jack-o-lantern", "pumpkin", wearer=True),
    Subject("penguin", "penguin", wearer=True),
    Subject("locomotive", "train"),
    Subject("dog-face", "dog", wearer=True),
)
TUNED = (
    Subject("cat-face", "cat", wearer=True),
    Subject("sport-utility-vehicle", "car"),
    Subject("billed-cap", "hat"),
)

SHARING = tuple(
    replace(subject, name=f"{subject.name}{_BY_THE_WALL}", shares_background=True)
    for subject in REPORTED[:5]
)
"""Subjects whose photos share one background, for its leakage and for what masks are for."""

DRAWN_BY_PEN = tuple(
    Subject(f"{art}{_BY_PEN}", superclass, outline=0.02)
    for art, superclass in (
        ("teddy-bear", "teddy"),
        ("cat", "cat"),
        ("dog", "dog"),
        ("rabbit", "rabbit"),
        ("penguin", "penguin"),
        ("owl", "owl"),
        ("fish", "fish"),
        ("teacup-without-handle", "cup"),
        ("automobile", "car"),
        ("house", "house"),
        ("top-hat", "hat"),
        ("guitar", "guitar"),
        ("robot", "robot"),
        ("jack-o-lantern", "pumpkin"),
        ("bear", "bear"),
        ("train", "train"),
    )
)
"""The first held-out look of each super-category that has any, with a pen's outline."""

_PROMPTS = (
    "a photo of {} on the beach",
    "a photo of {} in the snow",
    "a photo of {} at night",
    "a photo of {} in the forest",
    "a photo of {} in the mountains",
    "a photo of {} on a red background",
    "a sketch of {}",
    "a painting of {} in the city",
    "{} next to a tree",
)
_WORN = "{} wearing a crown"
_CARRIED = "{} and a crown"


_ACTS = (
    "{} flying in the sky",
    "{} standing on a table",
    "{} sitting on a chair",
    "{} running on the grass",
)
_CLOTHES = ("{} wearing a scarf", "{} wearing sunglasses")


def prompts_of(subject: Subject) -> tuple[str, ...]:
    """Return held-out prompts with "{}" for the subject: scenes, styles, clothes, neighbours."""
    return subject.prompts or (*_PROMPTS, _WORN if subject.wearer else _CARRIED)


def acts_of(subject: Subject) -> tuple[str, ...]:
    """Return prompts in which the subject acts and poses, and wears something if it may."""
    return _ACTS + _CLOTHES if subject.wearer else _ACTS


@dataclass(frozen=True)
class Photo:
    """A photo of a subject, and where in it the subject is."""

    picture: Image.Image  # RGB
    mask: Image.Image | None  # L, white is the subject


@cache
def photograph(subject: Subject, count: int = 5, *, side: int) -> tuple[Photo, ...]:
    """Return the first `count` photos of a subject, `side` pixels wide; without own, five fixed."""
    photos = _read_photos(subject, side) if subject.photos else _photos(subject, side)
    return tuple(photos)[:count]


def _read_photos(subject: Subject, side: int) -> Iterator[Photo]:
    """Yield the middle square of each of the user's photos."""

    def square(file: Path, mode: str) -> Image.Image:
        with Image.open(file) as image:
            upright = ImageOps.exif_transpose(image).convert(mode)
            return ImageOps.fit(upright, (side, side), Image.Resampling.LANCZOS)

    for photo, mask in subject.photos:
        yield Photo(square(photo, "RGB"), None if mask is None else square(mask, "L"))


def _photos(subject: Subject, side: int) -> Iterator[Photo]:
    # Composed at least twice as large and then shrunk, which smooths the edges.
    scale = max(1, math.ceil(2 * side / _UNITS))
    canvas = scale * _UNITS
    chance = Random(subject.art.stem)
    art = Image.open(subject.art).convert("RGBA")
    if subject.outline:
        # A fine line needs more pixels than the art has.
        large = art.resize((canvas, canvas), Image.Resampling.LANCZOS)
        art = draw_outline(large, subject.outline)
    for wall, floor in _SCENES:
        picture = Image.new("RGB", (canvas, canvas), wall)
        pen = ImageDraw.Draw(picture)
        if subject.shares_background:
            for left in range(0, _UNITS, 32):
                stripe = (left * scale, 0, (left + 32) * scale, canvas)
                pen.rectangle(stripe, fill=_STRIPES[left // 32 % 2])
            floor = _FLOOR
        pen.rectangle((0, 172 * scale, canvas, canvas), fill=floor)
        picture = picture.filter(ImageFilter.GaussianBlur(2 * scale))
        size = round(canvas * chance.uniform(0.66, 0.78))
        turned = art.resize((size, size), Image.Resampling.LANCZOS)
        # With room for parts that rotation moves out of the square, such as an ear.
        turned = turned.rotate(chance.uniform(-6, 6), Image.Resampling.BICUBIC, expand=True)
        overhang = (turned.width - size) // 2
        left = (canvas - size) // 2 + round(scale * chance.uniform(-8, 8))
        top = (canvas - size) // 2 + round(scale * chance.uniform(0, 14))
        shadow = Image.new("L", picture.size, 0)
        feet = top + 0.95 * size
        half = 12 * scale
        box = (left + 0.2 * size, feet - half, left + 0.8 * size, feet + half)
        ImageDraw.Draw(shadow).ellipse(box, fill=110)
        picture.paste((30, 30, 36), mask=shadow.filter(ImageFilter.GaussianBlur(5 * scale)))
        at = (left - overhang, top - overhang)
        picture.paste(turned, at, turned)
        mask = Image.new("L", picture.size, 0)
        mask.paste(turned.getchannel("A"), at)
        small = (side, side)
        yield Photo(
            picture=picture.resize(small, Image.Resampling.LANCZOS),
            mask=mask.resize(small, Image.Resampling.LANCZOS),
        )

"""Paint facts as a picture of 128 x 128: background, shadow, objects, what they wear, style."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter, ImageOps

from models.maker.scenes.art import Art
from models.maker.scenes.catalogue import PLACES, SUBJECTS
from models.maker.scenes.colouring import Change, draw_outline, recolour
from models.maker.scenes.places import SIDE, draw_places
from models.maker.scenes.scene import UNITS, Facts, Thing

_PIXELS = SIDE / UNITS  # pixels per unit of a scene
_PLACE_INDEX = {place: index for index, place in enumerate(PLACES)}
_SUBJECT_INDEX = {subject: index for index, subject in enumerate(SUBJECTS)}
_FLOATING = frozenset({"space"})  # no ground, no shadow


class Painter:
    """Turn facts into pixels with the art and the drawn places."""

    def __init__(self, art: Art, seed: int) -> None:
        self.art = art
        self._sprites = [Image.fromarray(sprite).convert("RGBa") for sprite in art.sprites]
        self._places = draw_places(seed)
        blot = Image.new("L", (192, 64))
        blot.paste(110, (20, 16, 172, 48))
        self._shadow = blot.filter(ImageFilter.GaussianBlur(12))

    def paint(self, facts: Facts) -> npt.NDArray[np.uint8]:
        """Paint the picture of the facts, (128, 128, 3)."""
        picture = self._background(facts)
        if facts.place not in _FLOATING:
            for thing in facts.things:
                self._cast_shadow(picture, thing)
        for thing in facts.things:
            self._put(picture, thing)
        if facts.style is not None:
            picture = _styled(picture, facts.style)
        return np.asarray(picture)

    def mask(self, facts: Facts, number: int = 0) -> npt.NDArray[np.uint8]:
        """Return the alpha of one object in its place in the picture, (128, 128)."""
        canvas = Image.new("RGBA", (SIDE, SIDE))
        self._put(canvas, facts.things[number])
        return np.asarray(canvas.getchannel("A"))

    def shown(self, facts: Facts) -> npt.NDArray[np.uint8]:
        """Return the super-category of each pixel, (128, 128).

        A pixel without an object has the number of super-categories as its value.
        """
        shown = np.full((SIDE, SIDE), len(SUBJECTS), np.uint8)
        for thing in facts.things:
            parts = [replace(thing, worn=None)]
            if thing.worn is not None:
                parts.append(_worn_by(thing))
            for part in parts:
                alone = self.mask(replace(facts, things=(part,)))
                shown[alone > 100] = _SUBJECT_INDEX[part.subject]
        return shown

    def _background(self, facts: Facts) -> Image.Image:
        if facts.place is None:
            return Image.new("RGB", (SIDE, SIDE), facts.plain)
        picture = Image.fromarray(self._places[_PLACE_INDEX[facts.place], facts.variant])
        return ImageOps.mirror(picture) if facts.mirrored else picture

    def _cast_shadow(self, picture: Image.Image, thing: Thing) -> None:
        x, y, size = (length * _PIXELS for length in (thing.x, thing.y, thing.size))
        width, height = max(4, round(size * 1.05)), max(3, round(size * 0.26))
        blot = self._shadow.resize((width, height), Image.Resampling.BILINEAR)
        corner = (round(x - width / 2), round(y + size * 0.47 - height / 2))
        picture.paste((20, 20, 30), corner, blot)

    def _put(self, picture: Image.Image, thing: Thing) -> None:
        self._paste(picture, thing, thing.look, thing.change)
        if thing.worn is not None:
            worn = _worn_by(thing)
            self._paste(picture, worn, worn.look, worn.change)

    def _paste(self, picture: Image.Image, thing: Thing, look: int, change: Change) -> None:
        sprite = self._sprites[look]
        if abs(thing.angle) > 1:
            sprite = sprite.rotate(thing.angle, Image.Resampling.BICUBIC)
        side = max(4, round(thing.size * _PIXELS))
        small = sprite.resize((side, side), Image.Resampling.HAMMING).convert("RGBA")
        if thing.mirrored:
            small = ImageOps.mirror(small)
        if change != Change():
            pixels = np.asarray(small)
            colours = recolour(pixels[..., :3], change)
            small = Image.fromarray(np.dstack([colours, pixels[..., 3]]))
        if change.outline:
            small = draw_outline(small, change.outline)
        corner = (round(thing.x * _PIXELS - side / 2), round(thing.y * _PIXELS - side / 2))
        picture.paste(small.convert("RGB"), corner, small.getchannel("A"))


def _worn_by(thing: Thing) -> Thing:
    """Return what a thing wears on its head, as a separate thing."""
    if thing.worn is None:
        raise ValueError(f"The {thing.subject} wears nothing.")
    head = thing.y - thing.size * 0.47
    return Thing(thing.worn, thing.worn_look, Change(), None, thing.x, head, thing.size * 0.5)


def _styled(picture: Image.Image, style: str) -> Image.Image:
    if style == "sketch":
        gray = picture.convert("L")
        blurred = np.asarray(gray.filter(ImageFilter.GaussianBlur(2.2)), np.float32)
        lines = 255 - 4.0 * np.abs(np.asarray(gray, np.float32) - blurred)
        return Image.fromarray(np.clip(lines, 30, 250).astype(np.uint8)).convert("RGB")
    if style == "painting":
        return ImageOps.posterize(picture.filter(ImageFilter.ModeFilter(7)), 4)
    if style == "pixel art":
        small = picture.resize((32, 32), Image.Resampling.BOX)
        return small.resize((SIDE, SIDE), Image.Resampling.NEAREST)
    return ImageOps.autocontrast(picture.convert("L")).convert("RGB")

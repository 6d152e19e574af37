"""From facts to a picture of 64 x 64: background, shadow, objects, what they wear, style."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter, ImageOps

from models.maker.art import Art
from models.maker.catalogue import PLACES
from models.maker.colouring import Change, recolour
from models.maker.places import draw_places
from models.maker.scenes import Facts, Thing

SIDE = 64
_PLACE_INDEX = {place: index for index, place in enumerate(PLACES)}
_FLOATING = frozenset({"space"})  # no ground, no shadow


class Painter:
    """Holds the art and the drawn places; `paint` turns facts into pixels."""

    def __init__(self, art: Art, seed: int) -> None:
        self.art = art
        self._sprites = [Image.fromarray(sprite).convert("RGBa") for sprite in art.sprites]
        self._places = draw_places(seed)
        blot = Image.new("L", (96, 32))
        blot.paste(110, (10, 8, 86, 24))
        self._shadow = blot.filter(ImageFilter.GaussianBlur(6))

    def paint(self, facts: Facts) -> npt.NDArray[np.uint8]:
        """(64, 64, 3)."""
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
        """Alpha of one object alone, (64, 64): its place in the picture."""
        canvas = Image.new("RGBA", (SIDE, SIDE))
        self._put(canvas, facts.things[number])
        return np.asarray(canvas.getchannel("A"))

    def _background(self, facts: Facts) -> Image.Image:
        if facts.place is None:
            return Image.new("RGB", (SIDE, SIDE), facts.plain)
        picture = Image.fromarray(self._places[_PLACE_INDEX[facts.place], facts.variant])
        return ImageOps.mirror(picture) if facts.mirrored else picture

    def _cast_shadow(self, picture: Image.Image, thing: Thing) -> None:
        width, height = max(4, round(thing.size * 1.05)), max(3, round(thing.size * 0.26))
        blot = self._shadow.resize((width, height), Image.Resampling.BILINEAR)
        corner = (round(thing.x - width / 2), round(thing.y + thing.size * 0.47 - height / 2))
        picture.paste((20, 20, 30), corner, blot)

    def _put(self, picture: Image.Image, thing: Thing) -> None:
        self._paste(picture, thing, thing.look, thing.change)
        if thing.worn is None:
            return
        head_y = thing.y - thing.size * 0.47
        worn = Thing(thing.worn, thing.worn_look, Change(), None, thing.x, head_y, thing.size * 0.5)
        self._paste(picture, worn, worn.look, worn.change)

    def _paste(self, picture: Image.Image, thing: Thing, look: int, change: Change) -> None:
        sprite = self._sprites[look]
        if abs(thing.angle) > 1:
            sprite = sprite.rotate(thing.angle, Image.Resampling.BILINEAR)
        side = max(4, round(thing.size))
        small = sprite.resize((side, side), Image.Resampling.BOX, reducing_gap=None)
        small = small.convert("RGBA")
        if thing.mirrored:
            small = ImageOps.mirror(small)
        pixels = np.asarray(small)
        if change != Change():
            coloured = Image.fromarray(recolour(pixels[..., :3], change))
        else:
            coloured = small.convert("RGB")
        corner = (round(thing.x - side / 2), round(thing.y - side / 2))
        picture.paste(coloured, corner, small.getchannel("A"))


def _styled(picture: Image.Image, style: str) -> Image.Image:
    if style == "sketch":
        gray = picture.convert("L")
        blurred = np.asarray(gray.filter(ImageFilter.GaussianBlur(1.6)), np.float32)
        lines = 255 - 3.2 * np.abs(np.asarray(gray, np.float32) - blurred)
        return Image.fromarray(np.clip(lines, 30, 250).astype(np.uint8)).convert("RGB")
    if style == "painting":
        return ImageOps.posterize(picture.filter(ImageFilter.ModeFilter(5)), 4)
    if style == "pixel art":
        small = picture.resize((20, 20), Image.Resampling.BOX)
        return small.resize((SIDE, SIDE), Image.Resampling.NEAREST)
    return ImageOps.autocontrast(picture.convert("L")).convert("RGB")

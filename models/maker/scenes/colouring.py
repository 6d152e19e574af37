"""Changes of a sprite's colours, pattern and outline, which make a family out of one look."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Floats = npt.NDArray[np.float32]
_GRAY = np.array([0.299, 0.587, 0.114], np.float32)
_INK = np.array([24, 20, 26], np.float32)
OUTLINED = 0.12  # share of the objects that are drawn with a pen
OUTLINES = (0.012, 0.035)  # width of the pen's line, as a share of the object's size


@dataclass(frozen=True)
class Change:
    """The difference of a sprite's colours from the art's. Angles are radians of hue."""

    hue: float = 0.0
    other_hue: float = 0.0  # for pixels on the other side of `split`, so that two hues shift apart
    split: float = 0.0  # direction in the chroma plane that separates the two sides
    saturation: float = 1.0
    brightness: float = 1.0
    tint: tuple[int, int, int] | None = None
    tint_strength: float = 0.0
    pattern: str = ""  # "", "stripes", "spots"
    pattern_phase: float = 0.0
    outline: float = 0.0  # width of a dark line, as a share of the object's size


def draw_change(rng: np.random.Generator) -> Change:
    """Draw a change that no caption names: for one of six a new hue, palette, tint or pattern.

    Five of six change hardly at all. When a third changed, the model drew subjects of one natural
    colour, such as tigers, in patches. Some get an outline as well, so that the model learns looks
    that are drawn with a pen.
    """
    outline = float(rng.uniform(*OUTLINES)) if rng.random() < OUTLINED else 0.0
    return replace(_draw_colours(rng), outline=outline)


def _draw_colours(rng: np.random.Generator) -> Change:
    kind = rng.random()
    brightness = float(rng.uniform(0.9, 1.08))
    if kind < 0.84:
        return Change(hue=float(rng.normal(0, 0.06)), brightness=brightness)
    pattern = str(rng.choice(["stripes", "spots"])) if rng.random() < 0.2 else ""
    phase = float(rng.uniform(0, 6.3))
    saturation = float(rng.uniform(0.7, 1.3))
    if kind < 0.92:
        turn = float(rng.uniform(-np.pi, np.pi))
        return Change(turn, turn, 0.0, saturation, brightness, None, 0.0, pattern, phase)
    if kind < 0.97:
        hue, other_hue, split = (float(angle) for angle in rng.uniform(-np.pi, np.pi, 3))
        return Change(hue, other_hue, split, saturation, brightness, None, 0.0, pattern, phase)
    red, green, blue = (int(value) for value in rng.integers(30, 250, 3))
    strength = float(rng.uniform(0.4, 0.8))
    return Change(0, 0, 0, 1.0, brightness, (red, green, blue), strength, pattern, phase)


def recolour(rgb: npt.NDArray[np.uint8], change: Change) -> npt.NDArray[np.uint8]:
    """Apply a change of colours and pattern to (height, width, 3)."""
    colours: Floats = rgb.astype(np.float32)
    if change.hue or change.other_hue:
        colours = _turned(colours, change)
    if change.saturation != 1.0:
        gray = (colours @ _GRAY)[..., None]
        colours = (gray + (colours - gray) * change.saturation).astype(np.float32)
    if change.tint is not None:
        colours = _tinted(colours, change.tint, change.tint_strength)
    if change.pattern:
        colours = _patterned(colours, change)
    changed: npt.NDArray[np.uint8] = np.clip(colours * change.brightness, 0, 255).astype(np.uint8)
    return changed


def draw_outline(sprite: Image.Image, width: float) -> Image.Image:
    """Draw a dark line around an RGBA sprite and along its inner edges.

    The sprite shrinks to make room for the line, so the picture keeps its size. `width` is the
    width of the line, as a share of that size.
    """
    side = sprite.width
    line = max(1, round(side * width))
    inner = max(4, side - 2 * line)
    canvas = Image.new("RGBA", sprite.size)
    canvas.paste(sprite.resize((inner, inner)), (line, line))
    silhouette = canvas.getchannel("A").point(lambda value: 255 if value > 110 else 0)
    grown = silhouette.filter(ImageFilter.MaxFilter(2 * line + 1))
    alpha = np.asarray(grown.filter(ImageFilter.GaussianBlur(0.6)), np.float32)
    pixels = np.asarray(canvas, np.float32)
    colours, cover = pixels[..., :3], pixels[..., 3:] / 255
    gray = colours @ _GRAY
    blurred = Image.fromarray(gray.astype(np.uint8)).filter(ImageFilter.GaussianBlur(line))
    contrast = np.abs(gray - np.asarray(blurred, np.float32))
    ink = np.clip((contrast - 14) / 26, 0, 1)[..., None]  # along inner edges
    drawn = (colours * (1 - ink) + _INK * ink) * cover + _INK * (1 - cover)
    outlined = np.dstack([drawn, alpha]).clip(0, 255).astype(np.uint8)
    return Image.fromarray(outlined)


def _turned(colours: Floats, change: Change) -> Floats:
    gray = (colours @ _GRAY)[..., None]
    chroma = colours - gray
    first = chroma @ _hue_turn(change.hue)
    if change.other_hue == change.hue:
        turned: Floats = gray + first
        return turned
    # Two axes of the chroma plane. A soft step between the two sides keeps edges clean.
    along = chroma[..., 0] - chroma[..., 1]
    across = chroma[..., 2] - 0.5 * (chroma[..., 0] + chroma[..., 1])
    side = along * np.cos(change.split) + across * np.sin(change.split)
    share = (1 / (1 + np.exp(-np.clip(side / 12, -20, 20))))[..., None].astype(np.float32)
    mixed: Floats = gray + share * first + (1 - share) * (chroma @ _hue_turn(change.other_hue))
    return mixed


def _hue_turn(angle: float) -> Floats:
    """Return the rotation about the gray axis (Rodrigues), as a matrix for row vectors."""
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
    turned: Floats = turn.T.astype(np.float32)
    return turned


def _tinted(colours: Floats, tint: tuple[int, int, int], strength: float) -> Floats:
    gray = (colours @ _GRAY)[..., None] / 255
    target = np.array(tint, np.float32)
    # Dark outlines and eyes keep their colour, because they identify the subject.
    keep = np.clip((gray - 0.16) / 0.2, 0, 1)
    shade = np.clip(0.5 + 0.75 * gray, 0, 1.2)
    gloss = 60 * np.clip(gray - 0.75, 0, 1)
    weight = np.float32(strength) * keep
    mixed = colours * (1 - weight) + (target * shade + gloss) * weight
    tinted: Floats = mixed.astype(np.float32)
    return tinted


def _patterned(colours: Floats, change: Change) -> Floats:
    height, width = colours.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = x / width * 6.3, y / height * 6.3
    if change.pattern == "stripes":
        wave = np.sin(4 * y + x * np.cos(change.pattern_phase) + change.pattern_phase)
        mask = wave > 0.25
    else:
        mask = np.sin(4 * x + change.pattern_phase) * np.sin(4 * y) > 0.35
    factor = np.where(mask, 0.62, 1.0).astype(np.float32)[..., None]
    return colours * factor

"""Stage art: download the emoji art by npm, draw every look once, and save all in one file.

Later stages read only this file (art.npz, 13 megabytes), so they need no network.
"""

from __future__ import annotations

import io
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.maker.scenes.catalogue import (
    FLAT_SETS,
    FURTHER_NAMES,
    HELD_OUT_SUBJECTS,
    NUMBERED_SET,
    SOLID_SET,
    SUBJECTS,
)

# Pinned, because another version has other pictures and the data would change.
PACKAGES = {
    "@iconify-json/noto": "1.2.9",
    "@iconify-json/noto-v1": "1.2.5",
    "@iconify-json/fxemoji": "1.2.2",
    "@iconify-json/twemoji": "1.2.5",
    "@iconify-json/emojione": "1.2.3",
    "@iconify-json/fluent-emoji-flat": "1.2.6",
    "@iconify-json/streamline-emojis": "1.2.4",
    "@lobehub/fluent-emoji-3d": "1.1.0",
}
SPRITE_PIXELS = 144


@dataclass(frozen=True)
class Look:
    """One icon of one art set. Each look has its own identity."""

    subject: str
    art_set: str
    icon: str
    held_out: bool

    @property
    def name(self) -> str:
        """The name in the card and in the held-out list."""
        return f"{self.subject}/{self.art_set}/{self.icon}"


@dataclass(frozen=True)
class Art:
    """All looks and their RGBA pictures, trimmed and centred in a square."""

    looks: tuple[Look, ...]
    sprites: npt.NDArray[np.uint8]  # (looks, 144, 144, 4)

    def of(self, subject: str, held_out: bool = False) -> list[int]:
        """Return the indices of a subject's looks, either the trained or the held-out ones."""
        return [
            i
            for i, look in enumerate(self.looks)
            if look.subject == subject and look.held_out == held_out
        ]


def make_art(cache: Path) -> Path:
    """Download, draw and save the art, unless the file exists; return the file."""
    target = cache / "art.npz"
    if target.exists():
        return target
    _install(cache / "npm")
    modules = cache / "npm" / "node_modules"
    looks: list[Look] = []
    sprites: list[npt.NDArray[np.uint8]] = []
    for subject, art_set, icon, picture in _pictures(modules):
        held_out = art_set == SOLID_SET and subject in HELD_OUT_SUBJECTS
        looks.append(Look(subject, art_set, icon, held_out))
        sprites.append(_squared(picture))
    described = json.dumps([look.__dict__ for look in looks])
    part = target.with_suffix(".part.npz")
    np.savez_compressed(part, sprites=np.stack(sprites), looks=np.array(described))
    part.replace(target)
    return target


def load_art(path: Path) -> Art:
    """Load the file that make_art writes."""
    with np.load(path) as stored:
        looks = tuple(Look(**entry) for entry in json.loads(str(stored["looks"])))
        return Art(looks, stored["sprites"])


def _install(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {"private": True, "dependencies": PACKAGES}
    (folder / "package.json").write_text(json.dumps(manifest))
    subprocess.run(["npm", "install", "--no-audit", "--no-fund"], cwd=folder, check=True)


def _pictures(modules: Path) -> list[tuple[str, str, str, Image.Image]]:
    sets = {name: _icons(modules / "@iconify-json" / name / "icons.json") for name in FLAT_SETS}
    code_points = _code_points(modules / "@iconify-json" / "twemoji" / "chars.json")
    solid = modules / "@lobehub" / "fluent-emoji-3d" / "assets"
    found: list[tuple[str, str, str, Image.Image]] = []
    for subject in SUBJECTS:
        for art_set, icons in sets.items():
            drawn: set[str] = set()
            for name in _names_in(art_set, subject):
                if name in icons and icons[name][0] not in drawn:
                    drawn.add(icons[name][0])
                    found.append((subject, art_set, name, _draw(icons[name][0], icons[name][1])))
        taken: set[Path] = set()
        for name in _names_in(SOLID_SET, subject):
            for stem in code_points.get(name, ()):
                file = solid / f"{stem}.webp"
                if file.exists() and file not in taken:
                    taken.add(file)
                    found.append((subject, SOLID_SET, name, Image.open(file).convert("RGBA")))
    return found


def _names_in(art_set: str, subject: str) -> list[str]:
    """Return the names that a super-category may have in an art set."""
    names = SUBJECTS[subject]
    if art_set in (NUMBERED_SET, SOLID_SET):
        names += FURTHER_NAMES.get(subject, ())
    if art_set != NUMBERED_SET:
        return list(dict.fromkeys(names))
    stems = dict.fromkeys([subject, f"{subject}-face", *names])
    return [name for stem in stems for name in (stem, *(f"{stem}-{k}" for k in (1, 2, 3)))]


def _icons(path: Path) -> dict[str, tuple[str, tuple[float, float]]]:
    """Map icon names to (SVG body, (width, height)). Aliases that only rename are included."""
    stored: dict[str, Any] = json.loads(path.read_text())
    size = (stored.get("width", 16), stored.get("height", 16))
    icons = {
        name: (icon["body"], (icon.get("width", size[0]), icon.get("height", size[1])))
        for name, icon in stored["icons"].items()
    }
    for name, alias in stored.get("aliases", {}).items():
        if alias.keys() == {"parent"} and alias["parent"] in icons:
            icons[name] = icons[alias["parent"]]
    return icons


def _code_points(path: Path) -> dict[str, list[str]]:
    stems: dict[str, list[str]] = {}
    for stem, name in json.loads(path.read_text()).items():
        stems.setdefault(name, []).append(stem)
    # The icon "cat-face" is an alias in one set and a separate picture in another.
    stems.setdefault("cat-face", ["1f431"])
    return stems


def _draw(body: str, size: tuple[float, float]) -> Image.Image:
    # Only this stage needs it, and it needs the system's cairo.
    import cairosvg  # type: ignore[import-untyped]

    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {size[0]} {size[1]}" width="320" height="320">{body}</svg>'
    )
    return Image.open(io.BytesIO(cairosvg.svg2png(svg.encode()))).convert("RGBA")


def _squared(picture: Image.Image) -> npt.NDArray[np.uint8]:
    """Trim the empty border, scale the longer side to SPRITE_PIXELS, and centre."""
    box = picture.getchannel("A").point(lambda value: 255 if value > 16 else 0).getbbox()
    picture = picture.crop(box)
    scale = SPRITE_PIXELS / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    # Premultiplied for the resizing, or the colour of transparent pixels bleeds into the rim.
    small = picture.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (SPRITE_PIXELS, SPRITE_PIXELS))
    corner = ((SPRITE_PIXELS - width) // 2, (SPRITE_PIXELS - height) // 2)
    square.paste(small.convert("RGBA"), corner)
    return np.asarray(square)

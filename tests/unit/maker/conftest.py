"""Drawn art: every super-category is a disc with a mark, so that no download is needed."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from models.maker.scenes.art import SPRITE_PIXELS, Look
from models.maker.scenes.catalogue import HELD_OUT_SUBJECTS, SOLID_SET, SUBJECTS

SETS = ("noto", "twemoji", SOLID_SET)


@pytest.fixture(scope="session")
def art_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write art.npz as stage `art` does, with three looks of each super-category."""
    looks, sprites = [], []
    for index, subject in enumerate(SUBJECTS):
        for number, art_set in enumerate(SETS):
            held_out = art_set == SOLID_SET and subject in HELD_OUT_SUBJECTS
            looks.append(Look(subject, art_set, subject, held_out))
            sprite = Image.new("RGBA", (SPRITE_PIXELS, SPRITE_PIXELS))
            draw = ImageDraw.Draw(sprite)
            fill = (40 + 3 * index, 90 + 50 * number, 200 - 2 * index, 255)
            draw.ellipse((4, 4, 140, 140), fill=fill)
            draw.rectangle((30 + index, 45, 45 + index, 90), fill=(250, 250, 250, 255))
            sprites.append(np.asarray(sprite))
    path = tmp_path_factory.mktemp("art") / "art.npz"
    described = json.dumps([asdict(look) for look in looks])
    np.savez_compressed(path, sprites=np.stack(sprites), looks=np.array(described))
    return path

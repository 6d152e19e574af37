"""A blind match: which of six photos' objects does each of twelve images show?"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from PIL import Image

from benchmarks.paper.methods.perfusion import draw_all
from benchmarks.verdict.concepts import USUAL, use_of
from benchmarks.verdict.sheets import page
from perfusion_core import BaseModel, Concept

NAMES = ("teddy-bear", "owl", "robot", "penguin", "cat", "top-hat")
MATCHED = tuple(made for name in NAMES for made in USUAL if made.name == name)
PROMPTS = ("a photo of <x>", "<x> on the beach")
SEEDS = (200, 201)
ANSWERS = "match.json"
_KEY = "match-key.json"


def draw_matched(concept: Concept, base: BaseModel) -> list[Image.Image]:
    """Draw an image of each of PROMPTS, at the recommended strength, with defaults."""
    use = use_of(concept)
    return draw_all(base, PROMPTS, SEEDS, {"x": use}, base.defaults.generate_config())


def write_match(
    photos: Mapping[str, Image.Image],
    images: Mapping[str, Sequence[Image.Image]],
    folder: Path,
    *,
    shuffle: int,
) -> None:
    """Write match.png, its key, and match.json, in which people give each image to a photo.

    The photos are numbered from 1, and so are the images below them; both are shuffled.
    """
    chance = Random(shuffle)
    names = sorted(photos)
    chance.shuffle(names)
    drawn = [(name, image) for name in sorted(images) for image in images[name]]
    chance.shuffle(drawn)
    page([photos[name] for name in names], [image for _, image in drawn]).save(folder / "match.png")
    right = [names.index(name) + 1 for name, _ in drawn]
    (folder / _KEY).write_text(json.dumps({"photos": names, "right": right}, indent=1))
    (folder / ANSWERS).write_text(json.dumps([None] * len(drawn)))


def count_right(folder: Path) -> tuple[int, int]:
    """Return how many images were given to the right photo, of how many; ValueError for gaps."""
    right = json.loads((folder / _KEY).read_text())["right"]
    answers = json.loads((folder / ANSWERS).read_text())
    if not isinstance(answers, list) or [type(answer) for answer in answers] != [int] * len(right):
        raise ValueError(
            f"{folder / ANSWERS} needs the number of a photo for each of {len(right)} images."
        )
    return sum(a == b for a, b in zip(answers, right, strict=True)), len(right)

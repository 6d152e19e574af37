"""The facts of a scene and its caption, deterministic from (seed, index).

The facts are separate from the picture, so that hard negatives and diagnoses can change one fact
(another subject, another place) and keep the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.maker.scenes.art import Art
from models.maker.scenes.catalogue import (
    COLOURS,
    PLACES,
    STYLES,
    SUBJECTS,
    TEMPLATES,
    WEARERS,
    WORN,
    withheld,
)
from models.maker.scenes.colouring import Change, draw_change
from models.maker.scenes.places import VARIANTS

UNITS = 64  # side of a scene; positions and sizes are in this unit at any number of pixels
REGION_CELLS = 16  # cells per side of a scene, as in the latents
RELATIONS = ("next to", "and", "beside")
_BARE_TEMPLATE = TEMPLATES.index("{}")
_SUBJECT_WORDS = tuple(SUBJECTS)
_COLOUR_WORDS = tuple(COLOURS)
_PLACE_WORDS = tuple(PLACES)
_VOWELS = "aeiou"


@dataclass(frozen=True)
class Thing:
    """One object: its look, the change of its colours, its centre and size in UNITS per side."""

    subject: str
    look: int
    change: Change
    colour: str | None  # colour word in the caption
    x: float
    y: float
    size: float
    angle: float = 0.0
    mirrored: bool = False
    worn: str | None = None
    worn_look: int = -1


@dataclass(frozen=True)
class Facts:
    """Everything that decides the picture and the caption."""

    things: tuple[Thing, ...]
    place: str | None
    place_phrase: int
    variant: int
    mirrored: bool
    plain: tuple[int, int, int]  # background of a scene without a place
    plain_word: str | None
    relation: str = ""
    style: str | None = None
    template: int = 0
    definite: bool = False
    articles: bool = True
    adjective: str = ""


def draw_facts(
    rng: np.random.Generator,
    art: Art,
    *,
    width: float,
    subject: str | None = None,
    held_out: bool = False,
    objects: int | None = None,
) -> Facts:
    """Draw the facts of a scene.

    `width` 0 is centred and simple, 1 is every size, place and extra. `objects` sets their number
    to one, two or three. Without it most scenes show one object, and a scene of a given `subject`
    always does. `held_out` gives the first object a held-out look.
    """
    place = str(rng.choice(_PLACE_WORDS)) if rng.random() < 0.55 else None
    plain_word, plain = _plain(rng)
    style = str(rng.choice(STYLES)) if rng.random() < 0.12 * width else None
    first = _thing(rng, art, width=width, subject=subject, held_out=held_out)
    things: tuple[Thing, ...] = (first,)
    relation = ""
    if objects is None:
        alone = rng.random() >= 0.28 or first.worn is not None or subject is not None
        objects = 1 if alone else 3 if rng.random() < 0.25 else 2
    if objects > 1:
        others = [
            _thing(rng, art, width=width, subject=None, held_out=False) for _ in range(objects - 1)
        ]
        things = _in_a_row(rng, [first, *others], width=width)
        relation = "and" if objects > 2 else str(rng.choice(RELATIONS, p=[0.7, 0.15, 0.15]))
    if place is not None and any(withheld(thing.subject, place) for thing in things):
        place = None
    size = things[0].size
    adjective = ""
    if len(things) == 1 and rng.random() < 0.06:
        adjective = "small" if size < 36 else "large" if size > 50 else ""
    template = int(rng.integers(len(TEMPLATES)))
    # Prompts name concepts without articles: `<robot> next to <penguin>`.
    articles = bool(rng.random() >= 1 / 3)
    if not articles and rng.random() < 0.5:
        template = _BARE_TEMPLATE
    return Facts(
        things=things,
        place=place,
        place_phrase=int(rng.integers(8)),
        variant=int(rng.integers(VARIANTS)),
        mirrored=bool(rng.random() < 0.5),
        plain=plain,
        plain_word=plain_word,
        relation=relation,
        style=style,
        template=template,
        definite=bool(rng.random() < 0.15),
        articles=articles,
        adjective=adjective,
    )


def caption(facts: Facts) -> str:
    """Return the caption of a scene. It does not mention uncaptioned changes of colour."""
    *before, last = (_phrase(thing, facts) for thing in facts.things)
    told = f"{', '.join(before)} {facts.relation} {last}" if before else last
    if facts.style == "black and white photo":
        text = f"a black and white photo of {told}"
    elif facts.style is not None:
        text = f"a {facts.style} of {told}"
    else:
        text = TEMPLATES[facts.template].format(told)
    if facts.place is not None:
        phrases_of_place = PLACES[facts.place]
        text += " " + phrases_of_place[facts.place_phrase % len(phrases_of_place)]
    elif facts.plain_word is not None:
        text += f" on {_article(facts.plain_word)} {facts.plain_word} background"
    return text


def object_regions(facts: Facts) -> npt.NDArray[np.uint8]:
    """Return 1 for the cells where an object, or what it wears, may be, else 0; (16, 16)."""
    cell = UNITS // REGION_CELLS
    centres = np.arange(REGION_CELLS) * cell + cell // 2
    regions = np.zeros((REGION_CELLS, REGION_CELLS), np.uint8)
    for thing in facts.things:
        reach = thing.size / 2 + 1
        top = thing.y - reach - (thing.size / 4 if thing.worn else 0)
        columns = np.abs(centres - thing.x) <= reach
        rows = (centres >= top) & (centres <= thing.y + reach)
        regions[rows[:, None] & columns] = 1
    return regions


def _phrase(thing: Thing, facts: Facts) -> str:
    words = [word for word in (facts.adjective, thing.colour, thing.subject) if word]
    if facts.articles:
        words.insert(0, "the" if facts.definite else _article(words[0]))
    told = " ".join(words)
    if thing.worn is None:
        return told
    worn = f"{_article(thing.worn)} {thing.worn}" if facts.articles else thing.worn
    return f"{told} wearing {worn}"


def _article(word: str) -> str:
    return "an" if word[0] in _VOWELS and word != "unicorn" else "a"


def _plain(rng: np.random.Generator) -> tuple[str | None, tuple[int, int, int]]:
    """Draw the background: a colour word of the caption with jitter, or an unnamed pale colour."""
    if rng.random() < 0.45:
        word = str(rng.choice(_COLOUR_WORDS))
        base = np.array(COLOURS[word])
    else:
        word = None
        base = np.array([255, 255, 255]) - rng.integers(0, 60, 3)
    jittered = np.clip(base + rng.integers(-10, 11, 3), 0, 255)
    return word, (int(jittered[0]), int(jittered[1]), int(jittered[2]))


def _thing(
    rng: np.random.Generator, art: Art, *, width: float, subject: str | None, held_out: bool
) -> Thing:
    subject = subject or str(rng.choice(_SUBJECT_WORDS))
    looks = art.of(subject, held_out) or art.of(subject)
    colour, change = None, draw_change(rng)
    if held_out:
        change = Change()
    elif rng.random() < 0.18:
        shown = [word for word in _COLOUR_WORDS if not withheld(subject, word)]
        colour = str(rng.choice(shown))
        jitter = rng.integers(-12, 13, 3)
        red, green, blue = (
            int(np.clip(c + j, 0, 255)) for c, j in zip(COLOURS[colour], jitter, strict=True)
        )
        change = Change(tint=(red, green, blue), tint_strength=0.9)
    size = rng.uniform(42 - 16 * width, 50 + 6 * width)
    reach = 3 + width * max(0.0, (UNITS - size) / 2 - 3)
    worn = None
    if subject in WEARERS and rng.random() < 0.2 * width:
        worn, size = str(rng.choice(WORN)), min(size, 42.0)
    return Thing(
        subject=subject,
        look=int(rng.choice(looks)),
        change=change,
        colour=colour,
        x=float(UNITS / 2 + rng.uniform(-reach, reach)),
        # Things stand rather low, because the ground of a place is below the middle.
        y=float(34 + rng.uniform(-reach, reach) + (4 if worn else 0)),
        size=float(size),
        angle=float(rng.normal(0, 7)) * width,
        mirrored=bool(rng.random() < 0.5),
        worn=worn,
        worn_look=int(rng.choice(art.of(worn))) if worn else -1,
    )


def _in_a_row(
    rng: np.random.Generator, things: Sequence[Thing], *, width: float
) -> tuple[Thing, ...]:
    """Place two or three things from left to right, without anything that they wear."""
    pair = len(things) == 2
    centres = (17.0, 47.0) if pair else (11.5, 32.0, 52.5)
    smallest, largest = (28 - 3 * width, 32.5) if pair else (21 - width, 23.5)
    height, sway = (36, 1.5) if pair else (38, 0.7)
    placed = []
    for centre, thing in zip(centres, things, strict=True):
        size = float(rng.uniform(smallest, largest))
        x = centre + rng.uniform(-sway, sway) * (1 + width)
        y = height + rng.uniform(-2, 2) * (1 + 3 * width)
        placed.append(replace(thing, x=float(x), y=float(y), size=size, worn=None))
    return tuple(placed)

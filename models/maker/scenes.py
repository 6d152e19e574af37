"""A scene: what is in it (facts), its picture, its caption. Deterministic from (seed, index).

Facts are drawn first and apart from the picture, so that hard negatives and diagnoses can change
one of them (another subject, another place) and keep all the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from models.maker.art import Art
from models.maker.catalogue import (
    COLOURS,
    PLACES,
    STYLES,
    SUBJECTS,
    TEMPLATES,
    WEARERS,
    WORN,
    withheld,
)
from models.maker.colouring import Change, draw_change
from models.maker.places import VARIANTS

RELATIONS = ("next to", "and", "beside")
_SUBJECT_WORDS = tuple(SUBJECTS)
_COLOUR_WORDS = tuple(COLOURS)
_PLACE_WORDS = tuple(PLACES)
_VOWELS = "aeiou"


@dataclass(frozen=True)
class Thing:
    """One object: which look, how it is recoloured, where it stands (pixels of 64)."""

    subject: str
    look: int
    change: Change
    colour: str | None  # captioned colour word
    x: float
    y: float
    size: float
    angle: float = 0.0
    mirrored: bool = False
    worn: str | None = None
    worn_look: int = -1


@dataclass(frozen=True)
class Facts:
    """Everything that the picture and the caption are made of."""

    things: tuple[Thing, ...]
    place: str | None
    place_phrase: int
    variant: int
    mirrored: bool
    plain: tuple[int, int, int]  # background where there is no place
    plain_word: str | None
    relation: str = ""
    style: str | None = None
    template: int = 0
    definite: bool = False
    adjective: str = ""


def draw_facts(
    rng: np.random.Generator,
    art: Art,
    *,
    width: float,
    subject: str | None = None,
    held_out: bool = False,
) -> Facts:
    """Draw a scene; `width` 0 is centred and simple, 1 is every size, place and extra."""
    place = str(rng.choice(_PLACE_WORDS)) if rng.random() < 0.55 else None
    plain_word, plain = _plain(rng)
    style = str(rng.choice(STYLES)) if rng.random() < 0.12 * width else None
    first = _thing(rng, art, width=width, subject=subject, held_out=held_out)
    things: tuple[Thing, ...] = (first,)
    relation = ""
    if rng.random() < 0.2 and first.worn is None and subject is None:
        second = _thing(rng, art, width=width, subject=None, held_out=False)
        things = _side_by_side(rng, first, second, width=width)
        relation = str(rng.choice(RELATIONS, p=[0.7, 0.15, 0.15]))
    if place is not None and any(withheld(thing.subject, place) for thing in things):
        place = None
    size = things[0].size
    adjective = ""
    if len(things) == 1 and rng.random() < 0.06:
        adjective = "small" if size < 36 else "large" if size > 50 else ""
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
        template=int(rng.integers(len(TEMPLATES))),
        definite=bool(rng.random() < 0.15),
        adjective=adjective,
    )


def caption(facts: Facts) -> str:
    """The words for a scene; uncaptioned colour changes stay unsaid."""
    article = "the" if facts.definite else "a"
    phrases = [_phrase(thing, article, facts.adjective) for thing in facts.things]
    told = f" {facts.relation} ".join(phrases)
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


def _phrase(thing: Thing, article: str, adjective: str) -> str:
    words = [word for word in (adjective, thing.colour, thing.subject) if word]
    start = "the" if article == "the" else _article(words[0])
    told = " ".join([start, *words])
    return told if thing.worn is None else f"{told} wearing {_article(thing.worn)} {thing.worn}"


def _article(word: str) -> str:
    return "an" if word[0] in _VOWELS and word != "unicorn" else "a"


def _plain(rng: np.random.Generator) -> tuple[str | None, tuple[int, int, int]]:
    """A captioned colour word (with jitter), or an unsaid pale colour."""
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
    reach = 3 + width * max(0.0, (64 - size) / 2 - 3)
    worn = None
    if subject in WEARERS and rng.random() < 0.12 * width:
        worn, size = str(rng.choice(WORN)), min(size, 42.0)
    return Thing(
        subject=subject,
        look=int(rng.choice(looks)),
        change=change,
        colour=colour,
        x=float(32 + rng.uniform(-reach, reach)),
        # Things stand rather low: the ground of a place is below the middle.
        y=float(34 + rng.uniform(-reach, reach) + (4 if worn else 0)),
        size=float(size),
        angle=float(rng.normal(0, 7)) * width,
        mirrored=bool(rng.random() < 0.5),
        worn=worn,
        worn_look=int(rng.choice(art.of(worn))) if worn else -1,
    )


def _side_by_side(
    rng: np.random.Generator, left: Thing, right: Thing, *, width: float
) -> tuple[Thing, Thing]:
    placed = []
    for centre, thing in ((17, left), (47, right)):
        size = float(rng.uniform(27 - 3 * width, 31))
        x = centre + rng.uniform(-1.5, 1.5) * (1 + width)
        y = 36 + rng.uniform(-2, 2) * (1 + 3 * width)
        placed.append(replace(thing, x=float(x), y=float(y), size=size, worn=None))
    return placed[0], placed[1]

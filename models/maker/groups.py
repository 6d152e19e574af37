"""Groups of scenes for the evaluator: what must be told apart stands side by side.

A group holds two looks of one super-category, each in two scenes of different places; one scene
of the first look shares its place with a scene of the second. So neither the background nor the
category tells the looks apart: only their own colours and parts do. Two looks, not more: a batch
then holds many super-categories, without which naming them is hardly learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.maker.art import Art
from models.maker.catalogue import PLACES, SUBJECTS
from models.maker.colouring import Change, draw_change
from models.maker.places import SIDE
from models.maker.scenes import Facts, caption, draw_facts
from models.maker.stream import tools

LOOKS, SCENES = 2, 2
_SUBJECTS, _PLACES = list(SUBJECTS), list(PLACES)


@dataclass(frozen=True)
class Groups:
    """Arrays over (groups, looks, scenes); a wrong caption differs in subject or place."""

    pictures: npt.NDArray[np.uint8]  # (g, 2, 2, 128, 128, 4): colours, and where the object is
    ids: npt.NDArray[np.int16]  # (g, 2, 2, 32)
    wrong: npt.NDArray[np.int16]  # (g, 2, 2, 2, 32): other subject, other place
    identities: npt.NDArray[np.int32]  # (g, 2): equal for equal looks without a change
    subjects: npt.NDArray[np.int64]  # (g,): which super-category
    places: npt.NDArray[np.int64]  # (g, 2, 2): which place; len(PLACES) for none

    @classmethod
    def joined(cls, parts: Sequence[Groups]) -> Groups:
        """The parts one after the other."""
        return cls(
            np.concatenate([part.pictures for part in parts]),
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.wrong for part in parts]),
            np.concatenate([part.identities for part in parts]),
            np.concatenate([part.subjects for part in parts]),
            np.concatenate([part.places for part in parts]),
        )


def draw_trained(art_file: Path, seed: list[int], count: int, width: float) -> Groups:
    """Groups of trained looks, in the form that a stream draws, of all widths up to `width`."""
    return draw_groups(art_file, seed, count, width=width)


def draw_groups(
    art_file: Path, seed: list[int], count: int, *, held_out: bool = False, width: float = 1.0
) -> Groups:
    """Draw groups; held-out ones show a look that no training sees, beside trained looks."""
    painter, encoder = tools(art_file)
    pictures, captions, wrong, identities, subjects, places = [], [], [], [], [], []
    for index in range(count):
        rng = np.random.default_rng([*seed, index])
        facts, names = _group(rng, painter.art, held_out=held_out, width=width)
        identities.append(names)
        subjects.append(_SUBJECTS.index(facts[0].things[0].subject))
        for fact in facts:
            pictures.append(np.dstack([painter.paint(fact), painter.mask(fact)]))
            captions.append(caption(fact))
            places.append(len(_PLACES) if fact.place is None else _PLACES.index(fact.place))
            wrong += [caption(_other_subject(rng, fact)), caption(_other_place(rng, fact))]
    shape = (count, LOOKS, SCENES)
    return Groups(
        np.stack(pictures).reshape(*shape, SIDE, SIDE, 4),
        encoder.encode(captions).reshape(*shape, 32),
        encoder.encode(wrong).reshape(*shape, 2, 32),
        np.array(identities, np.int32),
        np.array(subjects, np.int64),
        np.array(places, np.int64).reshape(shape),
    )


def _group(
    rng: np.random.Generator, art: Art, *, held_out: bool, width: float
) -> tuple[list[Facts], list[int]]:
    subjects = sorted({look.subject for look in art.looks if look.held_out or not held_out})
    subject = str(rng.choice(subjects))
    pool = list(rng.permutation(art.of(subject)))
    if held_out:
        pool = [int(rng.choice(art.of(subject, True))), *pool]
    places = [None if rng.random() < 0.25 else str(p) for p in rng.choice(_PLACES, LOOKS + 1)]
    facts, names = [], []
    for number in range(LOOKS):
        look = int(pool[number % len(pool)])
        # A look that comes a second time must differ by its colours.
        change = draw_change(rng)
        if held_out and number == 0:
            change = Change()
        elif number >= len(pool):
            red, green, blue = (int(value) for value in rng.integers(30, 250, 3))
            change = Change(tint=(red, green, blue), tint_strength=0.7)
        plain = change.hue == change.other_hue and abs(change.hue) < 0.3 and not change.tint
        names.append(look if plain and not change.pattern else 10_000 * (number + 1) + look)
        for scene in range(SCENES):
            fact = draw_facts(rng, art, width=width * float(rng.random()), subject=subject)
            thing = replace(fact.things[0], look=look, change=change, colour=None)
            place = places[number + scene]
            facts.append(replace(fact, things=(thing,), place=place, style=None))
    return facts, names


def _other_subject(rng: np.random.Generator, fact: Facts) -> Facts:
    other = str(rng.choice([word for word in SUBJECTS if word != fact.things[0].subject]))
    return replace(fact, things=(replace(fact.things[0], subject=other), *fact.things[1:]))


def _other_place(rng: np.random.Generator, fact: Facts) -> Facts:
    return replace(fact, place=str(rng.choice([p for p in PLACES if p != fact.place])))

"""Groups of scenes for the evaluator, which learns to tell the looks of a group apart.

A group holds two looks of one super-category, each in two scenes of different places; one scene
of the first look shares its place with a scene of the second. So only their own colours and parts
tell the looks apart, and neither the background nor the category does. A group holds only two
looks, so that a batch holds many super-categories. With few of them the evaluator hardly learns
to name them. In some scenes another object stands next to the look.

Returned groups have the same form, but the base model has redrawn the first scene of each look. So
the evaluator learns to recognise a look in what the model draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.maker.scenes.art import Art
from models.maker.scenes.catalogue import PLACES, SUBJECTS
from models.maker.scenes.colouring import OUTLINES, Change, draw_change
from models.maker.scenes.places import SIDE
from models.maker.scenes.scene import Facts, caption, draw_facts
from models.maker.stages.returned import Returned
from models.maker.stream import tools

LOOKS, SCENES = 2, 2
_ACCOMPANIED = 0.15  # share of the scenes with another object next to the look
_SUBJECTS, _PLACES = list(SUBJECTS), list(PLACES)
Told = tuple[list[Facts], list[int]]  # the scenes of a group, look by look, and its identities


@dataclass(frozen=True)
class Groups:
    """Arrays over (groups, looks, scenes). A wrong caption differs in the subject or the place."""

    pictures: npt.NDArray[np.uint8]  # (g, 2, 2, 128, 128, 3)
    shown: npt.NDArray[np.uint8]  # (g, 2, 2, 128, 128): super-categories, as Painter.shown says
    ids: npt.NDArray[np.int16]  # (g, 2, 2, 32)
    wrong: npt.NDArray[np.int16]  # (g, 2, 2, 2, 32): other subject, other place
    identities: npt.NDArray[np.int32]  # (g, 2): equal for equal looks with unchanged colours
    subjects: npt.NDArray[np.int64]  # (g,): which super-category
    places: npt.NDArray[np.int64]  # (g, 2, 2): which place; len(PLACES) for none

    @classmethod
    def joined(cls, parts: Sequence[Groups]) -> Groups:
        """Join the parts in their order."""
        return cls(
            np.concatenate([part.pictures for part in parts]),
            np.concatenate([part.shown for part in parts]),
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.wrong for part in parts]),
            np.concatenate([part.identities for part in parts]),
            np.concatenate([part.subjects for part in parts]),
            np.concatenate([part.places for part in parts]),
        )


def draw_trained(art_file: Path, seed: list[int], count: int, width: float) -> Groups:
    """Draw groups of trained looks of all widths up to `width`, with a stream's signature."""
    return draw_groups(art_file, seed, count, accompanied=_ACCOMPANIED, width=width)


def draw_groups(
    art_file: Path,
    seed: list[int],
    count: int,
    *,
    held_out: bool = False,
    outlined: bool | None = None,
    accompanied: float = 0.0,
    width: float = 1.0,
) -> Groups:
    """Draw groups; `held_out` ones pair a look that no training sees with a trained look.

    `outlined` gives all looks an outline or none; with None some have one, as in other scenes.
    `accompanied` is the share of the scenes with another object next to the look.
    """
    painter, _ = tools(art_file)
    told = []
    for index in range(count):
        rng = np.random.default_rng([*seed, index])
        told.append(_group(rng, painter.art, held_out, outlined, accompanied, width))
    return _painted(art_file, seed, told, {})


def returned_groups(
    art_file: Path, seed: list[int], count: int, returned: Returned, *, width: float = 1.0
) -> Groups:
    """Draw groups that pair a scene redrawn by the model with a fresh scene of the same look."""
    painter, _ = tools(art_file)
    of: dict[str, list[int]] = {}
    for index, facts in enumerate(returned.facts):
        if len(facts.things) == 1 and facts.things[0].worn is None and facts.style is None:
            of.setdefault(facts.things[0].subject, []).append(index)
    told: list[Told] = []
    given: dict[int, npt.NDArray[np.uint8]] = {}
    for index in range(count):
        rng = np.random.default_rng([*seed, index])
        subject = str(rng.choice(sorted(of)))
        chosen = [int(k) for k in rng.permutation(of[subject])]
        first = returned.facts[chosen[0]]
        looks = [first.things[0].look]
        second = next((k for k in chosen if returned.facts[k].things[0].look not in looks), None)
        scenes, names = [], []
        for number, source in enumerate((chosen[0], second)):
            fresh = draw_facts(rng, painter.art, width=width * float(rng.random()), subject=subject)
            if source is None:  # the model redrew no second look, so a fresh scene takes its place
                old = replace(_undressed(fresh), style=None)
            else:
                old = returned.facts[source]
                given[LOOKS * SCENES * index + SCENES * number] = returned.pictures[source]
            thing = old.things[0]
            # As in all groups, the other scene of look 1 shares its place with the first of look 0.
            place = first.place if number else _any_place(rng)
            names.append(_identity(thing.look, thing.change, number))
            scenes += [old, replace(_as(fresh, thing.look, thing.change), place=place)]
        told.append((scenes, names))
    return _painted(art_file, seed, told, given)


def _painted(
    art_file: Path,
    seed: list[int],
    told: Sequence[Told],
    given: Mapping[int, npt.NDArray[np.uint8]],
) -> Groups:
    """Paint the scenes into groups; `given` holds finished pictures by the number of the scene."""
    painter, encoder = tools(art_file)
    rng = np.random.default_rng([*seed, len(told)])
    scenes = [facts for group, _ in told for facts in group]
    shape = (len(told), LOOKS, SCENES)
    pictures = [given[k] if k in given else painter.paint(f) for k, f in enumerate(scenes)]
    wrong = [
        caption(changed)
        for facts in scenes
        for changed in (_other_subject(rng, facts), _other_place(rng, facts))
    ]
    places = [len(_PLACES) if f.place is None else _PLACES.index(f.place) for f in scenes]
    return Groups(
        np.stack(pictures).reshape(*shape, SIDE, SIDE, 3),
        np.stack([painter.shown(facts) for facts in scenes]).reshape(*shape, SIDE, SIDE),
        encoder.encode([caption(facts) for facts in scenes]).reshape(*shape, 32),
        encoder.encode(wrong).reshape(*shape, 2, 32),
        np.array([names for _, names in told], np.int32),
        np.array([_SUBJECTS.index(group[0].things[0].subject) for group, _ in told], np.int64),
        np.array(places, np.int64).reshape(shape),
    )


def _group(
    rng: np.random.Generator,
    art: Art,
    held_out: bool,
    outlined: bool | None,
    accompanied: float,
    width: float,
) -> Told:
    subjects = sorted({look.subject for look in art.looks if look.held_out or not held_out})
    subject = str(rng.choice(subjects))
    pool = list(rng.permutation(art.of(subject)))
    if held_out:
        pool = [int(rng.choice(art.of(subject, True))), *pool]
    places = [_any_place(rng) for _ in range(LOOKS + 1)]
    facts, names = [], []
    for number in range(LOOKS):
        look = int(pool[number % len(pool)])
        # A look that appears a second time must have other colours.
        change = draw_change(rng)
        if held_out and number == 0:
            change = Change()
        elif number >= len(pool):
            red, green, blue = (int(value) for value in rng.integers(30, 250, 3))
            change = Change(tint=(red, green, blue), tint_strength=0.7)
        if outlined is not None:
            line = float(
                rng.uniform(*OUTLINES)
            )  # always drawn, so that later random numbers stay the same
            change = replace(change, outline=line if outlined else 0.0)
        names.append(_identity(look, change, number))
        for scene in range(SCENES):
            objects = 2 if rng.random() < accompanied else 1
            fact = draw_facts(
                rng, art, width=width * float(rng.random()), subject=subject, objects=objects
            )
            fact = replace(_as(fact, look, change), place=places[number + scene])
            facts.append(fact)
    return facts, names


def _identity(look: int, change: Change, number: int) -> int:
    """Return a number that is equal for equal looks with unchanged colours."""
    plain = change.hue == change.other_hue and abs(change.hue) < 0.3 and not change.tint
    return look if plain and not change.pattern else 10_000 * (number + 1) + look


def _as(facts: Facts, look: int, change: Change) -> Facts:
    """Return the scene with this look as its first object and without a style."""
    thing = replace(facts.things[0], look=look, change=change, colour=None)
    return replace(facts, things=(thing, *facts.things[1:]), style=None)


def _undressed(facts: Facts) -> Facts:
    return replace(facts, things=tuple(replace(thing, worn=None) for thing in facts.things))


def _any_place(rng: np.random.Generator) -> str | None:
    place = str(rng.choice(_PLACES))
    return None if rng.random() < 0.25 else place


def _other_subject(rng: np.random.Generator, fact: Facts) -> Facts:
    other = str(rng.choice([word for word in SUBJECTS if word != fact.things[0].subject]))
    return replace(fact, things=(replace(fact.things[0], subject=other), *fact.things[1:]))


def _other_place(rng: np.random.Generator, fact: Facts) -> Facts:
    return replace(fact, place=str(rng.choice([p for p in PLACES if p != fact.place])))

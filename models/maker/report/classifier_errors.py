"""Errors of the classifier, on scenes and on images that people have named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from models.maker.recipe import Recipe
from models.maker.scenes.catalogue import SUBJECTS
from models.maker.scenes.colouring import OUTLINES
from models.maker.scenes.scene import Facts, draw_facts
from models.maker.stages.classifier import (
    UNKNOWN,
    Classifier,
    answers_of,
    classify,
    names_all,
    wears,
)
from models.maker.stream import tools

NAMED = Path(__file__).parents[1] / "named"  # images of the shipped model
_SUBJECTS = list(SUBJECTS)
_SCENES = 512  # held-out scenes of each kind
_TILE, _APART, _COLUMNS = 128, 130, 16
_UNNAMED = -1


def errors_on_scenes(model: Classifier, recipe: Recipe, art_file: Path) -> dict[str, float]:
    """Return the shares of right answers on held-out scenes, by kind of scene."""
    painter, _ = tools(art_file)
    count = 16 if recipe.name == "dry-run" else _SCENES
    found: dict[str, float] = {}
    for number, (name, objects, worn) in enumerate(
        (
            ("one object named", 1, False),
            ("both of two named", 2, False),
            ("all of three named", 3, False),
            ("wearer and worn named", 1, True),
        )
    ):
        facts: list[Facts] = []
        index = 0
        while len(facts) < count:
            rng = np.random.default_rng([recipe.seed + 9, 4, number, index])
            width = recipe.unet.widest * float(rng.random())
            fact = draw_facts(rng, painter.art, width=width, objects=objects)
            distinct = len({thing.subject for thing in fact.things}) == objects
            if distinct and (fact.things[0].worn is not None) == worn:
                facts.append(fact)
            index += 1
        logits = classify(model, np.stack([painter.paint(fact) for fact in facts]))
        right = answers_of(tuple(facts))
        found[name] = float(np.mean([_named(logits, k, f) for k, f in enumerate(facts)]))
        if name == "one object named":
            for question in ("place", "background", "colour"):
                known = right[question] != UNKNOWN
                hits = logits[question].argmax(1) == right[question]
                found[question] = float(hits[known].float().mean())
    for outlined in (False, True):
        name = f"held-out looks named{', outlined' if outlined else ''}"
        found[name] = _held_out_named(model, recipe, art_file, count, outlined=outlined)
    return found


def _named(logits: dict[str, torch.Tensor], row: int, facts: Facts) -> bool:
    wanted = [_SUBJECTS.index(thing.subject) for thing in facts.things]
    worn = facts.things[0].worn
    if worn is not None:
        return wears(logits, row, wanted[0], _SUBJECTS.index(worn))
    return names_all(logits, row, set(wanted))


def _held_out_named(
    model: Classifier, recipe: Recipe, art_file: Path, count: int, *, outlined: bool
) -> float:
    """Return the share of single objects with held-out looks that are named right."""
    painter, _ = tools(art_file)
    kept = [subject for subject in _SUBJECTS if painter.art.of(subject, True)]
    pictures, right = [], []
    for index in range(count):
        rng = np.random.default_rng([recipe.seed + 9, 5, index])
        subject = kept[index % len(kept)]
        width = recipe.unet.widest * float(rng.random())
        facts = draw_facts(rng, painter.art, width=width, subject=subject, held_out=True)
        outline = float(rng.uniform(*OUTLINES)) if outlined else 0.0
        thing = facts.things[0]
        thing = replace(thing, worn=None, change=replace(thing.change, outline=outline))
        pictures.append(painter.paint(replace(facts, things=(thing,))))
        right.append({_SUBJECTS.index(subject)})
    logits = classify(model, np.stack(pictures))
    return float(np.mean([names_all(logits, k, wanted) for k, wanted in enumerate(right)]))


def agreement_with_eyes(model: Classifier, folder: Path) -> dict[str, float]:
    """Return how often the classifier gives the names that people chose for images.

    The folder holds labels.json and, for each kind (singles, pairs), one sheet of tiles of 128
    pixels, 130 apart, 16 a row, in the order of the labels. No training reads them. Each label
    lists what every person chose from the list of names, and each share is the mean over these
    persons. The result also says how often the first two persons agree with each other.
    """
    labels = json.loads((folder / "labels.json").read_text())
    found = {}
    for kind in ("singles", "pairs"):
        sheet = next(folder.glob(f"{kind}.*"))
        logits = classify(model, cut(sheet, len(labels[kind])))
        said = [[_numbers(names) for names in label["chosen_of_64"]] for label in labels[kind]]
        hits = [
            _UNNAMED not in wanted and names_all(logits, row, wanted)
            for row, all_eyes in enumerate(said)
            for wanted in all_eyes
        ]
        found[f"agrees with eyes on {kind}"] = float(np.mean(hits))
        between = [first == second for first, second, *_ in said]
        found[f"eyes agree with each other on {kind}"] = float(np.mean(between))
    return found


def _numbers(names: str | list[str]) -> set[int]:
    """Return the super-categories of the names; _UNNAMED stands for any other name."""
    each = [names] if isinstance(names, str) else names
    return {_SUBJECTS.index(name) if name in SUBJECTS else _UNNAMED for name in each}


def cut(sheet: Path, count: int) -> npt.NDArray[np.uint8]:
    """Cut the first tiles out of a sheet, (count, 128, 128, 3)."""
    pixels = np.asarray(Image.open(sheet).convert("RGB"))
    corners = [(k // _COLUMNS * _APART, k % _COLUMNS * _APART) for k in range(count)]
    return np.stack([pixels[y : y + _TILE, x : x + _TILE] for y, x in corners])

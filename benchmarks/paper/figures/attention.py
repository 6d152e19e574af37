"""Figure 1: how much of the image a subject's word covers, by method, same prompts and seeds.

Textual inversion's word acts through the same frozen projections as any other word, so its maps are
those of the product without the edit.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

from benchmarks.paper import contact
from benchmarks.paper.compare import SEEDS, kept_in, write_whole
from benchmarks.paper.methods.ablations import NO_EDIT
from benchmarks.paper.methods.perfusion import USUAL_BETA
from benchmarks.paper.subjects import Subject
from perfusion_core import BaseModel, Concept, ConceptUse
from perfusion_core.edit_strategy import APART, EditStrategy
from perfusion_core.sampling import overlays
from perfusion_core.sampling.attention_maps import WordMap
from perfusion_core.sampling.sampler import ImageRequest, decode, start, step
from perfusion_core.sampling.trajectories import Batch

PROMPTS = (
    "a photo of {} on the beach",
    "a photo of {} in the snow",
    "a photo of {} in the forest",
    "{} next to a tree",
)
METHODS = ("superclass", "perfusion", "textual inversion")


def attention(
    base: BaseModel, subjects: Sequence[Subject], folder: Path, *, seed_count: int = 2
) -> list[dict[str, Any]]:
    """Return the mean coverage and share of each method's word, one dictionary per subject.

    `folder` holds what `compare` has kept of both methods.
    """
    found = []
    for subject in subjects:
        file = kept_in(folder, "attention", [subject.name]).with_suffix(".json")
        if not file.exists():
            ours, theirs = (
                kept_in(folder, name, [subject.name]).with_suffix(".safetensors")
                for name in ("perfusion", "textual inversion")
            )
            concept, word = Concept.load(ours), load_file(theirs)
            other = replace(concept, embeddings=(word["embedding"],))
            told, sheet = _measure(base, subject, concept, other, SEEDS[:seed_count])
            file.parent.mkdir(parents=True, exist_ok=True)
            contact.write(sheet, file.with_suffix(".png"))
            write_whole(file, {"subject": subject.name, **told})
        found.append(json.loads(file.read_text()))
    return found


def _measure(
    base: BaseModel,
    subject: Subject,
    concept: Concept,
    word: Concept,
    seeds: Sequence[int],
) -> tuple[dict[str, Any], list[list[Image.Image]]]:
    told: dict[str, Any] = {}
    sheet = []
    for method in METHODS:
        if method == "superclass":
            images, maps = _draw(base, subject.phrase, subject.superclass, seeds, {})
        elif method == "perfusion":
            use = {"x": ConceptUse(concept, USUAL_BETA)}
            images, maps = _draw(base, "a <x>", "<x>", seeds, use)
        else:
            use = {"x": ConceptUse(word, USUAL_BETA)}
            images, maps = _draw(base, "a <x>", "<x>", seeds, use, strategy=NO_EDIT)
        told[method] = {
            "coverage": float(np.mean([word_map.coverage for word_map in maps])),
            "share": float(np.mean([word_map.share.mean() for word_map in maps])),
        }
        shown = len(PROMPTS)  # the first seed
        pairs = zip(images[:shown], maps[:shown], strict=True)
        sheet.append([tile for pair in pairs for tile in (pair[0], _over(*pair))])
    return told, sheet


def _draw(
    base: BaseModel,
    phrase: str,
    word: str,
    seeds: Sequence[int],
    concepts: Mapping[str, ConceptUse],
    *,
    strategy: EditStrategy = APART,
) -> tuple[list[Image.Image], list[WordMap]]:
    """Draw every prompt and seed; return the images and the map of the subject's word in each."""
    trajectories = []
    for seed, prompt in product(seeds, PROMPTS):
        config = base.defaults.generate_config({"seed": seed})
        trajectories += start(
            base,
            ImageRequest(
                prompt=prompt.format(phrase),
                concepts=concepts,
                config=config,
                attention_maps=True,
            ),
            strategy=strategy,
        )
    batch = Batch(trajectories)
    while not trajectories[0].finished:
        step(base, batch)
    maps = []
    for trajectory in trajectories:
        assert trajectory.maps is not None
        (own,) = (found for found in trajectory.maps.means() if found.word.text == word)
        maps.append(own)
    return [decode(base, trajectory) for trajectory in trajectories], maps


def _over(image: Image.Image, found: WordMap) -> Image.Image:
    return Image.open(io.BytesIO(overlays.draw(image, found.share)))

"""Figure 1: how much of the image a subject's word covers, by method, same prompts and seeds.

The word's share of the attention, and what is left to the prompt's other words, are measured too.
Textual inversion's word acts through the same frozen projections as any other word, so its maps are
those of the product without the edit, after each of its steps. Custom Diffusion's word is read
together with its superclass.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load_file

from benchmarks.paper import contact
from benchmarks.paper.compare import SEEDS
from benchmarks.paper.kept import Store, Work, kept_in, photos_told
from benchmarks.paper.methods.ablations import NO_EDIT
from benchmarks.paper.methods.baselines import Baseline
from benchmarks.paper.methods.perfusion import USUAL_BETA, LearnedConcept, Perfusion
from benchmarks.paper.methods.pipelines import EMBEDDING, with_weights
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
_KIND = "attention"


@dataclass(frozen=True)
class Word:
    """A subject's word in prompts, and what makes it act."""

    base: BaseModel
    phrase: str
    words: frozenset[str]  # those that are the subject's
    concepts: Mapping[str, ConceptUse]
    strategy: EditStrategy = APART


@dataclass(frozen=True)
class Attention:
    """The methods whose words are compared: Perfusion first, then its ablations and baselines."""

    store: Store
    perfusion: Perfusion
    keys_trained: Perfusion | None
    baselines: Sequence[Baseline]
    seed_count: int = 2

    def work(self, subject: Subject) -> Work:
        """Return the work of one subject."""
        methods = [self.perfusion, self.keys_trained, *self.baselines]
        told = {
            "methods": [[m.name, dict(m.taught)] for m in methods if m is not None],
            "prompts": PROMPTS,
            "seeds": SEEDS[: self.seed_count],
            "photos": photos_told(subject, side=self.store.side),
        }
        kept = kept_in(self.store.folder, _KIND, [subject.name], told)
        make = partial(self._measure, subject, kept)
        return Work(_KIND, (subject.name,), kept.with_suffix(".json"), make)

    def _measure(self, subject: Subject, kept: Path) -> dict[str, Any]:
        told: dict[str, Any] = {}
        sheet = []
        for name, word in self._words(subject):
            images, maps = _draw(word, SEEDS[: self.seed_count])
            told[name] = {
                "coverage": float(np.mean([found.coverage for found, _ in maps])),
                "share": float(np.mean([found.share.mean() for found, _ in maps])),
                "others": float(np.mean([others for _, others in maps])),
            }
            shown = len(PROMPTS)  # the first seed
            pairs = list(zip(images, (found for found, _ in maps), strict=True))[:shown]
            sheet.append([tile for pair in pairs for tile in (pair[0], _over(*pair))])
        contact.write(sheet, kept.with_suffix(".png"))
        where = str(kept.relative_to(self.store.folder)) + ".png"
        return {"subject": subject.name, "sheet": where, "methods": told}

    def _words(self, subject: Subject) -> Iterator[tuple[str, Word]]:
        base = self.perfusion.base
        plain = frozenset(subject.superclass.split())
        yield "superclass", Word(base, subject.phrase, plain, {})
        placed = frozenset({"<x>"})
        concept = self._concept(self.perfusion, subject).concept
        use = {"x": ConceptUse(concept, USUAL_BETA)}
        yield self.perfusion.name, Word(base, "a <x>", placed, use)
        if self.keys_trained is not None:
            learned = self._concept(self.keys_trained, subject)
            use = {"x": ConceptUse(learned.concept, USUAL_BETA)}
            yield self.keys_trained.name, Word(base, "a <x>", placed, use, learned.strategy)
        for method in self.baselines:
            for steps in method.schedule:
                file = self.store.file(method, subject, steps)
                own = base
                if method.keeps_weights:
                    own = _with_weights(base, method.source, file)
                use = {"x": ConceptUse(_worded(concept, own, file), USUAL_BETA)}
                phrase, words = "a <x>", placed
                if method.beside_superclass:
                    phrase, words = f"a <x> {subject.superclass}", placed | plain
                yield f"{method.name}, {steps} steps", Word(own, phrase, words, use, NO_EDIT)

    def _concept(self, method: Perfusion, subject: Subject) -> LearnedConcept:
        steps = max(method.schedule)
        return method.read(self.store.file(method, subject, steps), subject, seconds=0.0)


def _with_weights(base: BaseModel, source: Path, file: Path) -> BaseModel:
    """Return the base model with the weights of a baseline's file."""
    pipeline = with_weights(base, source, file)
    own = BaseModel.from_pipeline(pipeline, name=base.name, device=str(base.device))
    own.override_defaults(base.defaults)
    own.covariance = base.covariance  # nothing is edited by it
    return own


def _worded(concept: Concept, base: BaseModel, file: Path) -> Concept:
    """Return a concept with the word's embedding of a baseline's file, for `base`."""
    return replace(
        concept,
        embeddings=(load_file(file)[EMBEDDING],),
        base_model_fingerprint=base.fingerprint,
        covariance_fingerprint=base.covariance_fingerprint,
    )


Read = tuple[WordMap, float]
"""The map of the subject's words together, and the share of all other words together."""


def _draw(word: Word, seeds: Sequence[int]) -> tuple[list[Image.Image], list[Read]]:
    """Draw every prompt and seed; return the images, and what is read from each image's maps."""
    base, trajectories = word.base, []
    for seed, prompt in product(seeds, PROMPTS):
        config = base.defaults.generate_config({"seed": seed})
        trajectories += start(
            base,
            ImageRequest(
                prompt=prompt.format(word.phrase),
                concepts=word.concepts,
                config=config,
                attention_maps=True,
            ),
            strategy=word.strategy,
        )
    batch = Batch(trajectories)
    while not trajectories[0].finished:
        step(base, batch)
    found = []
    for trajectory in trajectories:
        assert trajectory.maps is not None
        found.append(_together(trajectory.maps.means(), word.words))
    return [decode(base, trajectory) for trajectory in trajectories], found


def _together(maps: Sequence[WordMap], words: frozenset[str]) -> Read:
    own = [found for found in maps if found.word.text in words]
    share = torch.stack([found.share for found in own]).sum(0)
    others = sum(float(found.share.mean()) for found in maps if found.word.text not in words)
    return replace(own[0], share=share), others


def _over(image: Image.Image, found: WordMap) -> Image.Image:
    return Image.open(io.BytesIO(overlays.draw(image, found.share)))

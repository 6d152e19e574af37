"""Figure 4: two and three concepts in one image, each trained alone.

A concept is present by the product's own score (perfusion_core.evaluators.presence), whose
threshold was checked on the tuning subjects. It is recognised if its best window is nearer to its
own pictures than the best window of any subject that the image is not meant to show is to theirs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.paper import contact
from benchmarks.paper.compare import SEEDS, kept_in, write_whole
from benchmarks.paper.methods.perfusion import Perfusion, draw_all
from benchmarks.paper.subjects import Subject, photograph
from perfusion_core import BaseModel, Concept, ConceptUse
from perfusion_core.edit_strategy import APART, EditStrategy
from perfusion_core.evaluation.eval_prompts import curve_prompts
from perfusion_core.evaluators.concept_evaluator import ConceptEvaluator
from perfusion_core.evaluators.presence import presences, windows
from perfusion_core.evaluators.similarity import Evaluator

PROMPTS = {
    2: ("a photo of a <{}> next to a <{}>", "a photo of a <{}> next to a <{}> on the beach"),
    3: ("a photo of a <{}> and a <{}> and a <{}>",),
}


@dataclass(frozen=True)
class Gallery:
    """Concepts with their curves, as the product stores them; each is trained and measured once."""

    base: BaseModel
    evaluator: Evaluator
    folder: Path

    def concept(self, subject: Subject) -> Concept:
        """Return the subject's concept, named after it."""
        kept = self.folder / "gallery" / f"{subject.name}.safetensors"
        if kept.exists():
            return Concept.load(kept)
        trained = self.folder / "perfusion" / kept.name
        photos = photograph(subject, side=self.base.default_resolution)
        if trained.exists():
            concept = Concept.load(trained)
        else:
            (learned,) = Perfusion(self.base).learn(subject, photos, seed=0)
            concept = learned.concept
        judge = ConceptEvaluator(
            self.evaluator, self.base, superclass=subject.superclass,
            pictures=[photo.picture for photo in photos],
            run_on_device=lambda work: work(), check=lambda: None,
        )  # fmt: skip
        eval_prompts = curve_prompts(
            self.base.defaults.train_config(), steps=int(concept.training["steps"])
        )
        evaluation = judge.evaluate(concept, eval_prompts)
        concept = replace(concept, name=subject.name, evaluation=evaluation)
        kept.parent.mkdir(parents=True, exist_ok=True)
        concept.save(kept)
        return concept


def compose(
    gallery: Gallery,
    title: str,
    sets: Sequence[Sequence[Subject]],
    others: Sequence[Subject],
    *,
    strategy: EditStrategy = APART,
    seed_count: int = len(SEEDS),
) -> list[dict[str, Any]]:
    """Draw each set of subjects together, and measure; `others` has at least one in no image.

    Results are kept under `title` in the gallery's folder.
    """
    found = []
    for subjects in sets:
        names = [subject.name for subject in subjects]
        file = kept_in(gallery.folder, title, names).with_suffix(".json")
        if not file.exists():
            concepts = {subject.name: gallery.concept(subject) for subject in subjects}
            images = _draw(gallery, concepts, strategy, SEEDS[:seed_count])
            told = _measure(gallery, concepts, images, others)
            file.parent.mkdir(parents=True, exist_ok=True)
            contact.write([images], file.with_suffix(".png"))
            write_whole(file, {"subjects": names, "images": told})
        found.append(json.loads(file.read_text()))
    return found


def _draw(
    gallery: Gallery, concepts: Mapping[str, Concept], strategy: EditStrategy, seeds: Sequence[int]
) -> list[Image.Image]:
    # Each at the strength that its own curve recommends.
    uses = {name: ConceptUse(concept) for name, concept in concepts.items()}
    pairs = list(product(PROMPTS[len(concepts)], seeds))
    return draw_all(
        gallery.base,
        [prompt.format(*concepts) for prompt, _ in pairs],
        [seed for _, seed in pairs],
        uses,
        gallery.base.defaults.generate_config(),
        strategy=strategy,
    )


def _measure(
    gallery: Gallery,
    concepts: Mapping[str, Concept],
    images: Sequence[Image.Image],
    others: Sequence[Subject],
) -> list[dict[str, Any]]:
    absent = [other for other in others if other.name not in concepts]
    shown = [*concepts.values(), *(gallery.concept(subject) for subject in absent)]
    references = np.stack(
        [concept.reference for concept in shown if concept.reference is not None]
    )  # (s, p)
    told = []
    for image in images:
        present = presences(gallery.evaluator, image, concepts)
        seen = gallery.evaluator.embed_images([image.crop(box) for box in windows(*image.size)])
        best = (seen.numpy() @ references.T).max(0)  # (s,): each subject's best window
        told.append(
            {
                name: {
                    "score": present[name].score if name in present else None,
                    "present": name in present and present[name].present,
                    "recognised": bool(best[k] > best[len(concepts) :].max()),
                }
                for k, name in enumerate(concepts)
            }
        )
    return told

"""Figure 4: two and three concepts in one image, each trained alone.

A concept is present by the product's own score (perfusion_core.evaluators.presence), whose
threshold was checked on the tuning subjects. It is recognised if its best window is nearer to its
own pictures than the best window of any subject that the image is not meant to show is to theirs:
by the evaluator, and by EfficientNet-Lite2. Its similarities are those of the best windows, and its
colours those of the evaluator's.

Custom Diffusion learns the subjects of an image together; two or three LoRAs are added up by peft.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.paper import contact
from benchmarks.paper.compare import SEEDS
from benchmarks.paper.figures.boxes import draw_boxed
from benchmarks.paper.figures.sets import Set
from benchmarks.paper.kept import Store, Work, kept_in, photos_told
from benchmarks.paper.measures import colour_overlap
from benchmarks.paper.methods.baselines import Baseline, word_of
from benchmarks.paper.methods.perfusion import Perfusion, draw_all
from benchmarks.paper.methods.pipelines import draw, with_loras
from benchmarks.paper.outside import features
from benchmarks.paper.subjects import Subject, photograph
from perfusion_core import BaseModel, Concept, ConceptUse
from perfusion_core.evaluation.eval_prompts import curve_prompts
from perfusion_core.evaluators.concept_evaluator import ConceptEvaluator
from perfusion_core.evaluators.presence import presences, windows
from perfusion_core.evaluators.similarity import Evaluator


@dataclass(frozen=True)
class Gallery:
    """Concepts with their curves, as the product stores them; each is trained and measured once."""

    base: BaseModel
    evaluator: Evaluator
    store: Store
    perfusion: Perfusion

    def concept(self, subject: Subject) -> Concept:
        """Return the subject's concept, named after it."""
        told = [dict(self.perfusion.taught), photos_told(subject, side=self.store.side)]
        kept = kept_in(self.store.folder, "gallery", [subject.name], told)
        kept = kept.with_suffix(".safetensors")
        if kept.exists():
            return Concept.load(kept)
        steps = max(self.perfusion.schedule)
        concept = Concept.load(self.store.file(self.perfusion, subject, steps))
        photos = photograph(subject, side=self.store.side)
        judge = ConceptEvaluator(
            self.evaluator, self.base, superclass=subject.superclass,
            pictures=[photo.picture for photo in photos],
            run_on_device=lambda work: work(), check=lambda: None,
        )  # fmt: skip
        eval_prompts = curve_prompts(self.base.defaults.train_config(), steps=steps)
        evaluation = judge.evaluate(concept, eval_prompts)
        concept = replace(concept, name=subject.name, evaluation=evaluation)
        kept.parent.mkdir(parents=True, exist_ok=True)
        concept.save(kept)
        return concept


@dataclass(frozen=True)
class Composer:
    """Draws sets of subjects together and measures; `others` has at least one in no image."""

    gallery: Gallery
    others: Sequence[Subject]
    seed_count: int = len(SEEDS)

    def works(self, asked: Set, method: Baseline | None = None) -> list[Work]:
        """Return the works of one kind of composition, by Perfusion or by a baseline."""
        title = asked.title if method is None else f"{asked.title}, {method.name}"
        return [self._work(asked, title, subjects, method) for subjects in asked.subjects]

    def _work(
        self, asked: Set, title: str, subjects: Sequence[Subject], method: Baseline | None
    ) -> Work:
        names = tuple(subject.name for subject in subjects)
        side = self.gallery.store.side
        told = {
            "taught": dict((method or self.gallery.perfusion).taught),
            "prompts": asked.prompts,
            "drawn": [asked.beta, asked.boxed],
            "seeds": SEEDS[: self.seed_count],
            "photos": [photos_told(s, side=side) for s in (*subjects, *self.others)],
        }
        kept = kept_in(self.gallery.store.folder, title, names, told)
        make = partial(self._make, asked, subjects, method, kept)
        return Work(title, names, kept.with_suffix(".json"), make)

    def _make(
        self, asked: Set, subjects: Sequence[Subject], method: Baseline | None, kept: Path
    ) -> dict[str, Any]:
        pairs = list(product(asked.prompts, SEEDS[: self.seed_count]))
        prompts, seeds = [prompt for prompt, _ in pairs], [seed for _, seed in pairs]
        concepts = {subject.name: self.gallery.concept(subject) for subject in subjects}
        if method is None:
            uses = {name: ConceptUse(concept, asked.beta) for name, concept in concepts.items()}
            base = self.gallery.base
            if asked.boxed:
                images = draw_boxed(base, uses, prompts, seeds)
            else:
                texts = [prompt.format(*(f"<{name}>" for name in concepts)) for prompt in prompts]
                config = base.defaults.generate_config()
                images = draw_all(base, texts, seeds, uses, config, strategy=asked.strategy)
        else:
            images = self._drawn_by(method, subjects, prompts, seeds)
        plain = [prompt.format(*(subject.superclass for subject in subjects)) for prompt in prompts]
        told = [
            {"prompt": prompt, **found}
            for prompt, found in zip(
                prompts, self._measure(subjects, concepts, images, plain), strict=True
            )
        ]
        photos = [photograph(s, side=self.gallery.store.side)[0].picture for s in subjects]
        contact.write([photos, images], kept.with_suffix(".png"))
        where = str(kept.relative_to(self.gallery.store.folder)) + ".png"
        return {"subjects": list(concepts), "sheet": where, "images": told}

    def _drawn_by(
        self,
        method: Baseline,
        subjects: Sequence[Subject],
        prompts: Sequence[str],
        seeds: Sequence[int],
    ) -> list[Image.Image]:
        words = [word_of(method, k, subject.superclass) for k, subject in enumerate(subjects)]
        texts = [prompt.format(*words) for prompt in prompts]
        store, last = self.gallery.store, max(method.schedule)
        if method.name == "lora":
            files = [store.file(method, subject, last) for subject in subjects]
            pipeline = with_loras(
                method.base, method.source, files,
                rank=method.options.rank, projections=method.options.projections,
            )  # fmt: skip
            return draw(method.base, pipeline, texts, seeds)
        shown = [(subject, photograph(subject, side=store.side)) for subject in subjects]
        *_, learned = method.learn_together(shown, seed=0)
        return learned.draw_texts(texts, seeds)

    def _measure(
        self,
        subjects: Sequence[Subject],
        concepts: Mapping[str, Concept],
        images: Sequence[Image.Image],
        texts: Sequence[str],
    ) -> list[dict[str, Any]]:
        evaluator, side = self.gallery.evaluator, self.gallery.store.side
        shown = [*subjects, *(other for other in self.others if other.name not in concepts)]
        pictures = [[p.picture for p in photograph(subject, side=side)] for subject in shown]
        references = np.stack(
            [c.reference for c in map(self.gallery.concept, shown) if c.reference is not None]
        )  # (s, p)
        outside = torch.stack([features(own).mean(0) for own in pictures])  # (s, 704)
        similar = (evaluator.embed_images(images) * evaluator.embed_texts(texts)).sum(-1)
        told = []
        for image, text in zip(images, similar.tolist(), strict=True):
            parts = [image.crop(box) for box in windows(*image.size)]
            present = presences(evaluator, image, concepts)
            by_evaluator = evaluator.embed_images(parts).numpy() @ references.T  # (w, s)
            by_outside = (features(parts) @ outside.T).numpy()
            where, best = by_evaluator.argmax(0), by_evaluator.max(0)
            told.append(
                {
                    "text": text,
                    "concepts": {
                        name: {
                            "score": present[name].score if name in present else None,
                            "present": name in present and present[name].present,
                            "image": float(best[k]),
                            "outside": float(by_outside[:, k].max()),
                            "recognised": _is_nearest(by_evaluator, k, len(concepts)),
                            "recognised_outside": _is_nearest(by_outside, k, len(concepts)),
                            "colours": colour_overlap([parts[where[k]]], pictures[k]),
                        }
                        for k, name in enumerate(concepts)
                    },
                }
            )
        return told


def _is_nearest(similarities: Any, k: int, shown: int) -> bool:
    """Return whether the best window (w, s) of subject k is nearer than any absent subject's."""
    best = similarities.max(0)
    return bool(best[k] > best[shown:].max())

"""Subjects after trainings of some weight, rate and length, drawn alone and in pairs.

Concepts and images are kept in a folder of the base model and the evaluator in
~/.cache/perfusion-paper, and are not made again. `teach` teaches as the product does; its concepts
are in a folder that several benchmarks share.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image

from benchmarks.paper import contact
from benchmarks.paper.kept import EVALUATOR, RESULTS, kept_name
from benchmarks.paper.measures import scene_overlap
from benchmarks.paper.methods.method import BASE_FOLDER
from benchmarks.paper.methods.perfusion import USUAL_BETA, Perfusion, draw_all
from benchmarks.paper.subjects import Subject, photograph
from perfusion_core import BaseModel, Concept, ConceptUse, train
from perfusion_core.callbacks import run_at_once
from perfusion_core.evaluators.similarity import Evaluator
from perfusion_core.evaluators.training_evaluator import TrainingEvaluator
from perfusion_core.text.templates import TEMPLATES

ALONE = (
    "a photo of {} on the beach",
    "a photo of {} in the snow",
    "a photo of {} in the forest",
    "a painting of {} in the city",
    "{} on a red background",
    "a photo of {} at night",
    "{}",
    "{} next to a tree",
)
BESIDE = ("{} next to {}", "a photo of {} next to {}")
_BARE = ("{}", "photo of {}", "picture of {}")
WITH_ARTICLES = tuple(template for template in TEMPLATES if template not in _BARE)
"""The training prompts that say an article before the placeholder."""

_FIRST_ALONE_SEED = 7000  # one per prompt, since a small model draws all cats of one seed alike
_BESIDE_SEEDS = range(8)

CONCEPTS = RESULTS / "concepts"
"""The default folder of the concepts that `teach` makes."""

Pair = tuple[Subject, Subject]


@dataclass(frozen=True)
class Row:
    """How the concepts of a row are trained."""

    weight: float
    rate: float
    steps: int
    articles: bool = False

    @classmethod
    def read(cls, text: str) -> Self:
        """The row that WEIGHT:RATE:STEPS names, or WEIGHT:RATE:STEPS:articles."""
        weight, rate, steps, *rest = text.split(":")
        if rest not in ([], ["articles"]):
            raise ValueError(text)
        return cls(float(weight), float(rate), int(steps), bool(rest))

    @classmethod
    def usual(cls, base: BaseModel) -> Self:
        """The base model's own defaults."""
        config = base.defaults.train_config()
        return cls(config.background_weight, config.learning_rate, config.max_train_steps)

    def __str__(self) -> str:
        articles = ", articles" if self.articles else ""
        return f"{self.weight:g}, {self.rate:g}, {self.steps}{articles}"


@dataclass(frozen=True)
class Alone:
    """Means over the prompts of one subject."""

    image: float  # cosine to the photos
    text: float  # cosine to the prompt, with the superclass in the subject's place
    scene: float  # overlap of the edges' colours with the plain superclass's image, 0 to 1


@dataclass(frozen=True)
class Beside:
    """Means over the seeds of one pair in one form of the prompt."""

    first: float  # cosine to the first subject's photos
    second: float
    text: float
    roughness: float


@dataclass(frozen=True)
class Bench:
    """The base model, the evaluator, and the folder of what is kept."""

    base: BaseModel
    evaluator: Evaluator
    folder: Path

    def concept(self, row: Row, subject: Subject) -> Concept:
        """Return the subject's concept by the training `row`, with seed 0."""
        kept = self._kept(row) / f"{subject.name}.safetensors"
        if not kept.exists():
            options = {"background_weight": row.weight, "learning_rate": row.rate}
            method = Perfusion(
                self.base,
                schedule={row.steps: ()},
                options=options,
                templates=WITH_ARTICLES if row.articles else TEMPLATES,
            )
            photos = photograph(subject, side=self.base.default_resolution)
            (learned,) = method.learn(subject, photos, seed=0)
            kept.parent.mkdir(parents=True, exist_ok=True)
            learned.keep(kept)
        return Concept.load(kept)

    def images(
        self,
        file: Path,
        prompts: Sequence[str],
        seeds: Sequence[int],
        concepts: Mapping[str, ConceptUse],
        **options: object,
    ) -> list[Image.Image]:
        """Draw an image of each prompt and its seed, kept as the sheet `file`."""
        if not file.exists():
            config = self.base.defaults.generate_config(options)
            drawn = draw_all(self.base, prompts, seeds, concepts, config)
            file.parent.mkdir(parents=True, exist_ok=True)
            scratch = file.with_suffix(".part")
            contact.write([drawn], scratch)
            scratch.rename(file)
        return [contact.cut(file, 0, k) for k in range(len(prompts))]

    def similarity(self, images: Sequence[Image.Image], subject: Subject) -> float:
        """Return the mean cosine of the images to the subject's photos."""
        photos = photograph(subject, side=self.base.default_resolution)
        seen = self.evaluator.embed_images(images)
        return float((seen @ self.evaluator.embed_images([p.picture for p in photos]).T).mean())

    def text_similarity(self, images: Sequence[Image.Image], texts: Sequence[str]) -> float:
        """Return the mean cosine of each image to its own text."""
        told = self.evaluator.embed_texts(texts)
        return float((self.evaluator.embed_images(images) * told).sum(-1).mean())

    def alone(self, row: Row | None, subject: Subject, beta: float) -> Alone:
        """Measure one subject in the held-out prompts; without a row the plain superclass."""
        plain, images = self._draw_alone(None, subject, beta), self._draw_alone(row, subject, beta)
        return Alone(
            image=self.similarity(images, subject),
            text=self.text_similarity(
                images, [template.format(subject.phrase) for template in ALONE]
            ),
            scene=scene_overlap(images, plain),
        )

    def _draw_alone(self, row: Row | None, subject: Subject, beta: float) -> list[Image.Image]:
        seeds = [_FIRST_ALONE_SEED + k for k in range(len(ALONE))]
        if row is None:
            file = self._kept(row) / f"{subject.name}.png"
            return self.images(
                file, [template.format(subject.phrase) for template in ALONE], seeds, {}
            )
        file = self._kept(row) / f"{subject.name}, beta {beta:g}.png"
        prompts = [template.format(f"a <{subject.name}>") for template in ALONE]
        return self.images(file, prompts, seeds, self._uses(row, [subject], beta))

    def draw_beside(self, row: Row | None, pair: Pair, form: str, beta: float) -> list[Image.Image]:
        """Draw the pair in one form of the prompt, no articles; without a row in plain words."""
        name = form.format(*(subject.name for subject in pair))
        count = len(_BESIDE_SEEDS)
        if row is None:
            told = form.format(*(subject.superclass for subject in pair))
            return self.images(self._kept(row) / f"{name}.png", [told] * count, _BESIDE_SEEDS, {})
        told = form.format(*(f"<{subject.name}>" for subject in pair))
        file = self._kept(row) / f"{name}, beta {beta:g}.png"
        return self.images(file, [told] * count, _BESIDE_SEEDS, self._uses(row, pair, beta))

    def beside(self, row: Row | None, pair: Pair, form: str, beta: float) -> Beside:
        """Measure a pair: how much of each is there, and how rough the background is."""
        images = self.draw_beside(row, pair, form, beta)
        told = form.format(*(subject.superclass for subject in pair))
        return Beside(
            first=self.similarity(images, pair[0]),
            second=self.similarity(images, pair[1]),
            text=self.text_similarity(images, [told] * len(images)),
            roughness=roughness(images),
        )

    def _uses(self, row: Row, subjects: Sequence[Subject], beta: float) -> dict[str, ConceptUse]:
        return {subject.name: ConceptUse(self.concept(row, subject), beta) for subject in subjects}

    def _kept(self, row: Row | None) -> Path:
        return self.folder / ("plain" if row is None else str(row))


def teach(base: BaseModel, evaluator: Evaluator, subject: Subject, folder: Path) -> Concept:
    """Teach a subject, so that its concept recommends a strength, or read the kept concept."""
    file = folder / f"{subject.name}.safetensors"
    if not file.exists():
        photos = photograph(subject, side=base.default_resolution)
        training = train(
            base, [photo.picture for photo in photos], masks=[photo.mask for photo in photos],
            name=subject.name, superclass=subject.superclass, config=base.defaults.train_config(),
        )  # fmt: skip
        judge = TrainingEvaluator(
            training, evaluator=evaluator, pictures=training.examples.squares,
            run_on_device=run_at_once, check=lambda: None,
        )  # fmt: skip
        for _ in training:
            judge.evaluate_when_due()
        folder.mkdir(parents=True, exist_ok=True)
        judge.evaluated_concept().save(file)
    return Concept.load(file)


def roughness(images: Sequence[Image.Image]) -> float:
    """Return how speckled backgrounds are: the grey image's mean absolute Laplacian, in per cent.

    It is taken along the top and the bottom, where two objects next to each other are not,
    without a narrow stripe in the middle.
    """
    return float(np.mean([_roughness(image) for image in images]))


def _roughness(image: Image.Image) -> float:
    grey = np.asarray(image.convert("L"), dtype=np.float64) / 255  # (h, w)
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    laplacian = np.abs(4 * grey[1:-1, 1:-1] - around)

    def at(pixels: int) -> int:
        return round(pixels * image.width / 128)  # lengths are given for 128 pixels

    counted = np.zeros(laplacian.shape, dtype=bool)
    counted[at(3) : at(22), at(3) : -at(3)] = True
    counted[-at(12) : -at(3), at(3) : -at(3)] = True
    counted[:, at(60) : at(68)] = False
    return 100 * float(laplacian[counted].mean())


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of models and of the folder of results."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--beta", type=float, default=USUAL_BETA)
    parser.add_argument("--base-model", type=Path, default=BASE_FOLDER, metavar="FOLDER")
    parser.add_argument("--evaluator", default=EVALUATOR, metavar="FOLDER_OR_NAME")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    return parser


def bench_of(asked: argparse.Namespace) -> Bench:
    """Return the bench of `parser_of`'s options."""
    base, evaluator = BaseModel.load(asked.base_model), Evaluator(asked.evaluator)
    return Bench(base, evaluator, asked.results / kept_name(base, evaluator) / "surroundings")

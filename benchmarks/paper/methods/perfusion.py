"""Perfusion through its library: the product, and its ablations by edit strategies."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.paper.methods.ablations import TrainedKeys
from benchmarks.paper.methods.method import images_at_once
from benchmarks.paper.subjects import Photo, Subject
from perfusion_core import BaseModel, Concept, ConceptUse, train
from perfusion_core.config import GenerateConfig, Locking
from perfusion_core.edit_strategy import APART, EditStrategy
from perfusion_core.evaluation.curve import BETAS
from perfusion_core.sampling.sampler import ImageRequest, decode, start, step
from perfusion_core.sampling.trajectories import Batch, Trajectory
from perfusion_core.strength import DEFAULT_BETA
from perfusion_core.text.templates import TEMPLATES

USUAL_BETA = DEFAULT_BETA["local"]


@dataclass
class Perfusion:
    """The product; with another strategy or with trained Keys, one of its ablations."""

    base: BaseModel
    name: str = "perfusion"
    schedule: Mapping[int, tuple[float, ...]] = field(default_factory=dict)  # empty: the usual
    seed_count: int = 4
    strategy: EditStrategy = APART
    trains_keys: bool = False
    templates: Sequence[str] = TEMPLATES
    locking: Locking = "local"
    masked: bool = True
    photo_count: int = 5
    options: Mapping[str, Any] = field(default_factory=dict)
    kept: Path | None = None  # concepts of an earlier run, to draw them otherwise

    def __post_init__(self) -> None:
        """Sweep all of BETAS after as many steps as the base model's defaults have."""
        if not self.schedule:
            self.schedule = {usual_steps(self.base): BETAS}

    def learn(
        self, subject: Subject, photos: Sequence[Photo], *, seed: int
    ) -> Iterator["LearnedConcept"]:
        """Train a concept with the base model's own defaults, changed by `options`."""
        if self.kept is not None:
            concept = Concept.load(self.kept / f"{subject.name}.safetensors")
            yield LearnedConcept(self, concept, 0.0, strategy=self.strategy)
            return
        photos = photos[: self.photo_count]
        options = {**self.options, "seed": seed, "max_train_steps": max(self.schedule)}
        config = self.base.defaults.train_config(options)
        keys = None
        if self.trains_keys:
            keys = TrainedKeys(self.base, subject.superclass, learning_rate=config.learning_rate)
        training = train(
            self.base, [photo.picture for photo in photos], name="x",
            superclass=subject.superclass,
            masks=[photo.mask for photo in photos] if self.masked else None,
            config=config, templates=self.templates,
            strategy=keys.learning if keys else self.strategy,
        )  # fmt: skip
        seconds = 0.0
        for _ in range(max(self.schedule)):
            begun_s = time.perf_counter()
            next(training)
            if keys:
                keys.step()
            seconds += time.perf_counter() - begun_s
            if training.step in self.schedule:
                yield LearnedConcept(
                    self, training.concept(), seconds,
                    strategy=keys.learned() if keys else self.strategy,
                    key_bytes=keys.nbytes if keys else 0,
                )  # fmt: skip


def usual_steps(base: BaseModel) -> int:
    """Return the training steps of the base model's own defaults."""
    return base.defaults.train_config().max_train_steps


@dataclass
class Superclass:
    """The plain superclass, where every method begins; nothing is learned."""

    base: BaseModel
    name: str = "superclass"
    schedule: Mapping[int, tuple[float, ...]] = field(default_factory=lambda: {0: (1.0,)})
    seed_count: int = 4

    def learn(
        self, subject: Subject, photos: Sequence[Photo], *, seed: int
    ) -> Iterator["UnlearnedSubject"]:
        """Yield at once, since there is nothing to learn."""
        yield UnlearnedSubject(self.base, subject)


class UnlearnedSubject:
    """The superclass in the subject's place."""

    stored_bytes = 0
    steps = 0
    seconds = 0.0

    def __init__(self, base: BaseModel, subject: Subject) -> None:
        self._base, self._subject = base, subject

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], dial: float) -> list[Image.Image]:
        """Draw images of the superclass."""
        texts = [prompt.format(self._subject.phrase) for prompt in prompts]
        return draw_all(self._base, texts, seeds, {}, self._base.defaults.generate_config())

    def keep(self, file: Path) -> None:
        """Write nothing."""


class LearnedConcept:
    """A concept, drawn at a bias."""

    def __init__(
        self,
        method: Perfusion,
        concept: Concept,
        seconds: float,
        *,
        strategy: EditStrategy,
        key_bytes: int = 0,
    ) -> None:
        self.method, self.concept, self.seconds, self.strategy = method, concept, seconds, strategy
        self.steps = int(concept.training["steps"])
        vectors = [concept.o_v, concept.i_star, *concept.embeddings]
        if concept.e_super is not None:
            vectors.append(concept.e_super)
        self.stored_bytes = sum(vector.nbytes for vector in vectors) + key_bytes

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], dial: float) -> list[Image.Image]:
        """Draw images at the bias β `dial`."""
        method = self.method
        use = {"x": ConceptUse(self.concept, dial)}
        config = method.base.defaults.generate_config({"locking": method.locking})
        texts = [prompt.format("a <x>") for prompt in prompts]
        return draw_all(method.base, texts, seeds, use, config, strategy=self.strategy)

    def keep(self, file: Path) -> None:
        """Write the concept file."""
        self.concept.save(file)


def draw_all(
    base: BaseModel,
    texts: Sequence[str],
    seeds: Sequence[int],
    concepts: Mapping[str, ConceptUse],
    config: GenerateConfig,
    *,
    strategy: EditStrategy = APART,
) -> list[Image.Image]:
    """Draw one image per text and its seed, several to a step."""
    images: list[Image.Image] = []
    at_once = images_at_once(base)
    for begin in range(0, len(texts), at_once):
        batch = slice(begin, begin + at_once)
        trajectories: list[Trajectory] = []
        for text, seed in zip(texts[batch], seeds[batch], strict=True):
            own = replace(config, seed=seed)
            request = ImageRequest(prompt=text, concepts=concepts, config=own)
            trajectories += start(base, request, strategy=strategy)
        together = Batch(trajectories)
        while not trajectories[0].finished:
            step(base, together)
        images += [decode(base, trajectory) for trajectory in trajectories]
    return images

"""Perfusion through its library: the product, and its ablations by edit strategies."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from benchmarks.paper.methods.ablations import TrainedKeys, with_keys
from benchmarks.paper.methods.method import images_at_once
from benchmarks.paper.subjects import Photo, Subject
from perfusion_core import BaseModel, Concept, ConceptUse, train
from perfusion_core.config import GenerateConfig, Locking
from perfusion_core.edit_strategy import APART, EditStrategy
from perfusion_core.evaluation.curve import BETAS
from perfusion_core.sampling.sampler import ImageRequest, decode, start, step
from perfusion_core.sampling.trajectories import Batch, Trajectory
from perfusion_core.strength import DEFAULT_BETA, DEFAULT_TAU
from perfusion_core.text.templates import TEMPLATES

USUAL_BETA = DEFAULT_BETA["local"]


@dataclass
class Perfusion:
    """The product; with another strategy or with trained Keys, one of its ablations.

    A method with its own `strategy`, base model or templates has a name of its own, too.
    """

    base: BaseModel
    name: str = "perfusion"
    schedule: Mapping[int, tuple[float, ...]] = field(default_factory=dict)  # empty: the usual
    seed_count: int = 4
    strategy: EditStrategy = APART
    trains_keys: bool = False
    templates: Sequence[str] = TEMPLATES
    locking: Locking = "local"
    tau: float = DEFAULT_TAU
    masked: bool = True
    photo_count: int = 5
    options: Mapping[str, Any] = field(default_factory=dict)
    taught_as: str = ""  # empty: its own name

    def __post_init__(self) -> None:
        """Sweep all of BETAS after as many steps as the base model's defaults have."""
        if not self.schedule:
            self.schedule = {usual_steps(self.base): BETAS}
        self.taught_as = self.taught_as or self.name

    @property
    def usual_steps(self) -> int:
        """All of the schedule's steps."""
        return max(self.schedule)

    @property
    def usual(self) -> float:
        """The locking's default bias, if the last step draws at it."""
        dials = self.schedule[self.usual_steps]
        default = DEFAULT_BETA[self.locking]
        return default if default in dials else dials[-1]

    @property
    def taught(self) -> Mapping[str, Any]:
        """What decides the training: its steps, options, photos and prompts."""
        return {
            "steps": list(self.schedule),
            "options": dict(self.options),
            "trains_keys": self.trains_keys,
            "masked": self.masked,
            "photo_count": self.photo_count,
            "templates": list(self.templates),
        }

    @property
    def drawn(self) -> Mapping[str, Any]:
        """What decides the drawing: locking and temperature."""
        return {"locking": self.locking, "tau": self.tau}

    def read(self, file: Path, subject: Subject, *, seconds: float) -> "LearnedConcept":
        """Read a kept concept, with its Keys if they were trained."""
        strategy, key_bytes = self.strategy, 0
        if self.trains_keys:
            o_k = load_file(_keys_of(file))["o_k"].to(self.base.device)
            strategy, key_bytes = with_keys(o_k), o_k.nbytes
        concept = Concept.load(file)
        return LearnedConcept(self, concept, seconds, strategy=strategy, key_bytes=key_bytes)

    def learn(
        self, subject: Subject, photos: Sequence[Photo], *, seed: int
    ) -> Iterator["LearnedConcept"]:
        """Train a concept with the base model's own defaults, changed by `options`."""
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
                o_k = keys.learned() if keys else None
                yield LearnedConcept(
                    self, training.concept(), seconds,
                    strategy=self.strategy if o_k is None else with_keys(o_k),
                    key_bytes=0 if o_k is None else o_k.nbytes, o_k=o_k,
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
    usual: float = 1.0
    usual_steps: int = 0
    taught_as: str = "superclass"
    taught: Mapping[str, Any] = field(default_factory=dict)
    drawn: Mapping[str, Any] = field(default_factory=dict)

    def read(self, file: Path, subject: Subject, *, seconds: float) -> "UnlearnedSubject":
        """Return the superclass."""
        return UnlearnedSubject(self.base, subject)

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
        o_k: torch.Tensor | None = None,
    ) -> None:
        self.method, self.concept, self.seconds, self.strategy = method, concept, seconds, strategy
        self._o_k = o_k
        self.steps = int(concept.training["steps"])
        vectors = [concept.o_v, concept.i_star, *concept.embeddings]
        if concept.e_super is not None:
            vectors.append(concept.e_super)
        self.stored_bytes = sum(vector.nbytes for vector in vectors) + key_bytes

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], dial: float) -> list[Image.Image]:
        """Draw images at the bias β `dial`."""
        method = self.method
        use = {"x": ConceptUse(self.concept, dial, method.tau)}
        config = method.base.defaults.generate_config({"locking": method.locking})
        texts = [prompt.format("a <x>") for prompt in prompts]
        return draw_all(method.base, texts, seeds, use, config, strategy=self.strategy)

    def keep(self, file: Path) -> None:
        """Write the concept file, and next to it the Keys if they were trained."""
        self.concept.save(file)
        if self._o_k is not None:
            save_file({"o_k": self._o_k.cpu()}, _keys_of(file))


def _keys_of(file: Path) -> Path:
    return file.with_suffix(".keys")


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

"""Perfusion through its library, and the ablations that carry the paper, one change each.

What the product has no option for is put in place of one of its functions, for as long as an
ablation trains or draws.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import torch
from PIL import Image
from torch import Tensor

from benchmarks.paper.method import images_at_once
from benchmarks.paper.subjects import Photo, Subject
from perfusion_core import BaseModel, Concept, ConceptUse, train
from perfusion_core.conditioning import Target, keys_and_values
from perfusion_core.config import GenerateConfig, Locking
from perfusion_core.evaluation.curve import BETAS
from perfusion_core.rank_one import Edit, Metric, decompose
from perfusion_core.sampling.sampler import Batch, ImageRequest, Trajectory, decode, start, step
from perfusion_core.strength import DEFAULT_BETA
from perfusion_core.training.trainer import Training

USUAL_BETA = DEFAULT_BETA["local"]

Change = Literal["", "keys trained", "no gate", "removed one by one", "published gates"]


@dataclass
class Perfusion:
    """The product, or with a change one of its ablations."""

    base: BaseModel
    name: str = "perfusion"
    schedule: Mapping[int, tuple[float, ...]] = field(default_factory=dict)  # empty: the usual
    seed_count: int = 4
    change: Change = ""
    locking: Locking = "local"
    masked: bool = True
    photo_count: int = 5
    options: Mapping[str, Any] = field(default_factory=dict)
    kept: Path | None = None  # concepts of an earlier run, to be drawn otherwise

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
            yield LearnedConcept(self, concept, 0.0, None)
            return
        photos = photos[: self.photo_count]
        options = {**self.options, "seed": seed, "max_train_steps": max(self.schedule)}
        training = train(
            self.base, [photo.picture for photo in photos], name="x",
            superclass=subject.superclass,
            masks=[photo.mask for photo in photos] if self.masked else None,
            config=self.base.defaults.train_config(options),
        )  # fmt: skip
        keys = self._trained_keys(training) if self.change == "keys trained" else None
        seconds = 0.0
        for _ in range(max(self.schedule)):
            begun_s = time.perf_counter()
            with changed(self.change, keys):
                next(training)
            seconds += time.perf_counter() - begun_s
            if training.step in self.schedule:
                kept = None if keys is None else keys.detach().clone()
                yield LearnedConcept(self, training.concept(), seconds, kept)

    def _trained_keys(self, training: Training) -> Tensor:
        """o*_K (Σ d_l,) from where it is locked, as another parameter at the Values' rate."""
        with torch.no_grad():
            locked = [layer.W_K.float() @ training.e_super for layer in self.base.layers]
        keys = torch.cat(locked).requires_grad_()
        rate = training.config.learning_rate
        training._optimizer.add_param_group({"params": [keys], "lr": rate})
        return keys


def usual_steps(base: BaseModel) -> int:
    """Training steps by the base model's own defaults."""
    return base.defaults.train_config().max_train_steps


@dataclass
class Superclass:
    """Nothing learned: the plain superclass, where every method begins."""

    base: BaseModel
    name: str = "superclass"
    schedule: Mapping[int, tuple[float, ...]] = field(default_factory=lambda: {0: (1.0,)})
    seed_count: int = 4

    def learn(
        self, subject: Subject, photos: Sequence[Photo], *, seed: int
    ) -> Iterator["UnlearnedSubject"]:
        """Nothing to learn."""
        yield UnlearnedSubject(self.base, subject)


class UnlearnedSubject:
    """The superclass in the subject's place."""

    stored_bytes = 0
    steps = 0
    seconds = 0.0

    def __init__(self, base: BaseModel, subject: Subject) -> None:
        self._base, self._subject = base, subject

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], dial: float) -> list[Image.Image]:
        """Images of the superclass."""
        texts = [prompt.format(self._subject.phrase) for prompt in prompts]
        return draw_all(self._base, texts, seeds, {}, self._base.defaults.generate_config())

    def keep(self, file: Path) -> None:
        """Nothing."""


class LearnedConcept:
    """A concept, drawn at a bias."""

    def __init__(
        self, method: Perfusion, concept: Concept, seconds: float, keys: Tensor | None
    ) -> None:
        self.method, self.concept, self.seconds, self._keys = method, concept, seconds, keys
        self.steps = int(concept.training["steps"])
        vectors = [concept.o_v, concept.i_star, *concept.embeddings]
        if concept.e_super is not None:
            vectors.append(concept.e_super)
        self.stored_bytes = sum(vector.nbytes for vector in vectors)
        if keys is not None:
            self.stored_bytes += keys.nbytes

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], dial: float) -> list[Image.Image]:
        """Images at the bias β `dial`."""
        method = self.method
        use = {"x": ConceptUse(self.concept, dial)}
        config = method.base.defaults.generate_config({"locking": method.locking})
        with changed(method.change, self._keys):
            return draw_all(
                method.base, [prompt.format("a <x>") for prompt in prompts], seeds, use, config
            )

    def keep(self, file: Path) -> None:
        """The concept file."""
        self.concept.save(file)


def draw_all(
    base: BaseModel,
    texts: Sequence[str],
    seeds: Sequence[int],
    concepts: Mapping[str, ConceptUse],
    config: GenerateConfig,
) -> list[Image.Image]:
    """One image per text and its seed, several to a step."""
    images: list[Image.Image] = []
    at_once = images_at_once(base)
    for begin in range(0, len(texts), at_once):
        batch = slice(begin, begin + at_once)
        trajectories: list[Trajectory] = []
        for text, seed in zip(texts[batch], seeds[batch], strict=True):
            own = replace(config, seed=seed)
            trajectories += start(base, ImageRequest(prompt=text, concepts=concepts, config=own))
        together = Batch(trajectories)
        while not trajectories[0].finished:
            step(base, together)
        images += [decode(base, trajectory) for trajectory in trajectories]
    return images


def changed(change: Change, keys: Tensor | None = None) -> AbstractContextManager[object]:
    """What makes an ablation of the product."""
    replaced: dict[str, Callable[..., Any]] = {}
    if change == "keys trained":
        assert keys is not None
        replaced["keys_and_values"] = _with_keys(keys)
    elif change == "no gate":
        replaced["decompose"] = _without_gate
    elif change == "removed one by one":
        replaced["decompose"] = _removing_one_by_one
    elif change == "published gates":
        replaced["decompose"] = _with_published_gates
    stack = ExitStack()
    for name, function in replaced.items():
        for module in ("conditioning", "training.trainer"):
            stack.enter_context(patch(f"perfusion_core.{module}.{name}", function))
    return stack


def _with_keys(o_k: Tensor) -> Callable[..., Tensor]:
    def with_own_keys(
        base: BaseModel, e: Tensor, targets: Sequence[Target], **options: Any
    ) -> Tensor:
        locked = keys_and_values(base, e, targets, **options)  # (B, N, 2 Σ d_l)
        if not targets:
            return locked
        (target,) = targets
        gate = decompose(
            e, target.i_star[None], metric=base.covariance.metric,
            beta=torch.tensor([target.beta]), tau=torch.tensor([target.tau]),
        ).gate  # (B, N, 1)  # fmt: skip
        parts = []
        for layer in base.layers:
            instead = o_k[layer.own] - layer.W_K.float() @ target.e_super  # (d_l,)
            parts += [gate * instead, torch.zeros_like(gate * instead)]
        return locked + torch.cat(parts, dim=-1)

    return with_own_keys


def _without_gate(
    e: Tensor, i: Tensor, *, metric: Metric, beta: Tensor, tau: Tensor, apart: bool = False
) -> Edit:
    """The plain rank-one edit, `W (e − sim(e) i*) + o* sim(e)`: β and τ change nothing."""
    edit = decompose(e, i, metric=metric, beta=beta, tau=tau)
    return replace(edit, gate=_similarities(e, i, metric))


def _removing_one_by_one(
    e: Tensor, i: Tensor, *, metric: Metric, beta: Tensor, tau: Tensor, apart: bool = False
) -> Edit:
    """Each concept's own projection subtracted, as if the others were orthogonal to it."""
    edit = decompose(e, i, metric=metric, beta=beta, tau=tau, apart=apart)
    return replace(edit, e_perp=e - _similarities(e, i, metric) @ i.to(e))


def _with_published_gates(
    e: Tensor, i: Tensor, *, metric: Metric, beta: Tensor, tau: Tensor, apart: bool = False
) -> Edit:
    """Equation (3) as it stands: a gate sees all of its concept's similarity."""
    return decompose(e, i, metric=metric, beta=beta, tau=tau)


def _similarities(e: Tensor, i: Tensor, metric: Metric) -> Tensor:
    """Equation (1) for each concept: (..., N, J)."""
    exact = i.detach().to(metric.factor)  # (J, d)
    a = metric.solve(exact)
    return e @ (a / (exact * a).sum(-1, keepdim=True)).to(e).T

"""The methods that people use today, on the same photos, templates, noise and sampler.

Their published training loops are scripts for large models, not library code. Here they share one
loop, so that they differ only in what is learned. LoRA is peft's; diffusers' own pipeline draws.
Several subjects may be learned together, as Custom Diffusion does to compose them.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from benchmarks.paper.methods.pipelines import (
    EMBEDDING,
    TOKENS,
    add_lora,
    add_words,
    class_latents,
    draw,
    latents_of,
    load_pipeline,
)
from benchmarks.paper.subjects import Photo, Subject
from perfusion_core import BaseModel
from perfusion_core.text.templates import TEMPLATES
from perfusion_core.training.loss import wanted_prediction

Shown = tuple[Subject, Sequence[Photo]]
"""A subject with its photos."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a baseline is trained; chosen on the tuning subjects."""

    schedule: Mapping[int, tuple[float, ...]]
    rate: float = 0.0
    embedding_rate: float = 0.0
    prior: float = 0.0  # weight of the loss on class images
    batch: int = 8
    rank: int = 4
    projections: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")  # that LoRA adds to


@dataclass(frozen=True)
class Baseline:
    """One method: what is learned, and whether its word stands before the superclass's."""

    base: BaseModel
    source: Path  # the base model's folder, from which diffusers loads it
    name: str
    options: Options
    unfreeze: Callable[[Any, Options], list[Tensor]]
    beside_superclass: bool  # "<x> cat", not "<x>"
    keeps_weights: bool = False  # for other figures
    seed_count: int = 4

    @property
    def schedule(self) -> Mapping[int, tuple[float, ...]]:
        """After which steps, at which settings of the dial, images are drawn."""
        return self.options.schedule

    @property
    def usual_steps(self) -> int:
        """All of the schedule's steps."""
        return max(self.schedule)

    @property
    def usual(self) -> float:
        """The last dial at the usual steps."""
        return self.schedule[self.usual_steps][-1]

    @property
    def taught_as(self) -> str:
        """Its own name."""
        return self.name

    @property
    def taught(self) -> Mapping[str, Any]:
        """What decides the training: its options."""
        return {**asdict(self.options), "schedule": list(self.schedule), "usual_steps": None}

    @property
    def drawn(self) -> Mapping[str, Any]:
        """What else decides the drawing: nothing."""
        return {}

    def read(self, file: Path, subject: Subject, *, seconds: float) -> None:
        """Return None, since a file does not hold all that has changed."""

    def learn(
        self, subject: Subject, photos: Sequence[Photo], *, seed: int
    ) -> Iterator["LearnedPipeline"]:
        """Train a copy of the base model's pipeline."""
        return self.learn_together([(subject, photos)], seed=seed)

    def learn_together(self, shown: Sequence[Shown], *, seed: int) -> Iterator["LearnedPipeline"]:
        """Train one pipeline on several subjects, each with its own word."""
        torch.manual_seed(seed)
        learner = _Learner(self, load_pipeline(self.base, self.source), shown, seed)
        for number in range(1, max(self.schedule) + 1):
            learner.step()
            if number in self.schedule:
                yield LearnedPipeline(self, learner, steps=number)


class LearnedPipeline:
    """A pipeline whose weights have changed; valid until its training goes on."""

    def __init__(self, method: Baseline, learner: "_Learner", *, steps: int) -> None:
        self._method, self._learner, self.steps = method, learner, steps
        self.seconds, self.words = learner.seconds, learner.words
        self.stored_bytes = 4 * learner.learned_count

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], dial: float) -> list[Image.Image]:
        """Draw images of the first subject; `dial` scales LoRA's adapter."""
        pipeline = self._learner.pipeline
        adapted = hasattr(pipeline.unet, "peft_config")
        if adapted:
            pipeline.unet.set_adapters(["default"], [dial])
        images = self.draw_texts([prompt.format(f"a {self.words[0]}") for prompt in prompts], seeds)
        if adapted:
            pipeline.unet.set_adapters(["default"], [1.0])
        return images

    def draw_texts(self, texts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """Draw whole prompts, which say each subject's word."""
        return draw(self._method.base, self._learner.pipeline, texts, seeds)

    def keep(self, file: Path) -> None:
        """Write the first word's embedding, and the U-Net's learned weights if they are kept."""
        learner = self._learner
        kept = {EMBEDDING: learner.table[-len(self.words)]}
        if self._method.keeps_weights:
            named = learner.pipeline.unet.named_parameters()
            kept |= {name: weight for name, weight in named if weight.requires_grad}
        save_file({n: w.detach().cpu().clone().contiguous() for n, w in kept.items()}, file)


def word_of(method: Baseline, number: int, superclass: str) -> str:
    """Return what prompts call the subject of this number."""
    return f"{TOKENS[number]} {superclass}" if method.beside_superclass else TOKENS[number]


def textual_inversion(base: BaseModel, source: Path, options: Options) -> Baseline:
    """Only the word's embedding is learned (Gal et al. 2022)."""
    return Baseline(base, source, "textual inversion", options, lambda _p, _o: [], False)


def dreambooth(base: BaseModel, source: Path, options: Options) -> Baseline:
    """All of the U-Net, with prior preservation (Ruiz et al. 2023)."""

    def unfreeze(pipeline: Any, _options: Options) -> list[Tensor]:
        return _unfrozen(pipeline.unet.parameters())

    return Baseline(base, source, "dreambooth", options, unfreeze, True)


def custom_diffusion(base: BaseModel, source: Path, options: Options) -> Baseline:
    """Cross-attention Keys, Values and the word, with a prior (Kumari et al. 2023)."""

    def unfreeze(pipeline: Any, _options: Options) -> list[Tensor]:
        named = pipeline.unet.named_parameters()
        return _unfrozen(w for n, w in named if ".attn2.to_k." in n or ".attn2.to_v." in n)

    return Baseline(base, source, "custom diffusion", options, unfreeze, True, keeps_weights=True)


def lora(base: BaseModel, source: Path, options: Options) -> Baseline:
    """Low-rank additions to the attention's projections (Hu et al. 2021), by peft."""

    def unfreeze(pipeline: Any, options: Options) -> list[Tensor]:
        rank, projections = options.rank, options.projections
        return add_lora(pipeline, rank=rank, projections=projections, name="default")

    return Baseline(base, source, "lora", options, unfreeze, True, keeps_weights=True)


class _Learner:
    """One training in progress."""

    def __init__(self, method: Baseline, pipeline: Any, shown: Sequence[Shown], seed: int) -> None:
        options = method.options
        begun_s = time.perf_counter()
        self.pipeline, self._options = pipeline, options
        subjects = [subject for subject, _ in shown]
        self._superclasses = [subject.superclass for subject in subjects]
        self.words = [word_of(method, k, name) for k, name in enumerate(self._superclasses)]
        beside = method.beside_superclass
        self.table = add_words(pipeline, [None if beside else w for w in self._superclasses])
        self._other_words = self.table.detach()[: -len(shown)].clone()
        self._latents = [latents_of(pipeline, photos) for _, photos in shown]
        self._class_latents = [
            class_latents(method.base, pipeline, subject) for subject in subjects if options.prior
        ]
        learned = method.unfreeze(pipeline, options)
        self.learned_count = sum(parameter.numel() for parameter in learned)
        groups: list[dict[str, Any]] = []
        if learned:
            groups.append({"params": learned, "lr": options.rate})
        if options.embedding_rate:
            self.learned_count += len(shown) * self.table.shape[1]
            groups.append({"params": [self.table.requires_grad_()], "lr": options.embedding_rate})
        self._optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        self._draw = torch.Generator().manual_seed(seed)
        self.seconds = time.perf_counter() - begun_s

    def step(self) -> None:
        begun_s = time.perf_counter()
        loss = self._mean_loss(self._latents, self.words)
        if self._class_latents:
            plain = self._mean_loss(self._class_latents, self._superclasses)
            loss = loss + self._options.prior * plain
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        with torch.no_grad():
            self.table[: len(self._other_words)] = self._other_words  # only new rows are learned
        self.seconds += time.perf_counter() - begun_s

    def _mean_loss(self, latents: Sequence[Tensor], words: Sequence[str]) -> Tensor:
        losses = [self._loss(own, word) for own, word in zip(latents, words, strict=True)]
        return torch.stack(losses).mean()

    def _loss(self, latents: Tensor, word: str) -> Tensor:
        pipeline, draw_from, batch = self.pipeline, self._draw, self._options.batch
        chosen = torch.randint(len(latents), (batch,), generator=draw_from)
        which = torch.randint(len(TEMPLATES), (batch,), generator=draw_from).tolist()
        ids = pipeline.tokenizer(
            [TEMPLATES[k].format(word) for k in which],
            padding="max_length", truncation=True, return_tensors="pt",
        ).input_ids  # fmt: skip
        scheduler, clean = pipeline.scheduler, latents[chosen]
        t = torch.randint(scheduler.config.num_train_timesteps, (batch,), generator=draw_from)
        noise = torch.randn(clean.shape, generator=draw_from)
        t, noise, ids = (drawn.to(clean.device) for drawn in (t, noise, ids))
        told = pipeline.text_encoder(ids)[0]
        noisy = scheduler.add_noise(clean, noise, t)
        predicted = pipeline.unet(noisy, t, encoder_hidden_states=told).sample
        loss: Tensor = functional.mse_loss(predicted, wanted_prediction(scheduler, clean, noise, t))
        return loss


def _unfrozen(weights: Iterable[Tensor]) -> list[Tensor]:
    return [weight.requires_grad_() for weight in weights]

"""Stage unet: train the denoiser and the text encoder, first on simple scenes, then on all.

The shard, the order in it, the noise, the learning rate and the curriculum depend only on the
number of samples seen. So a run that is killed and resumed equals an uninterrupted one.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from models.maker.checkpoints import Checkpoints
from models.maker.networks.denoiser import (
    Denoiser,
    TwoProductAttention,
    build_denoiser,
    make_schedule,
)
from models.maker.networks.precision import autocast
from models.maker.networks.teacher import Alignment, Teacher
from models.maker.networks.team import Team, train_together
from models.maker.recipe import Recipe, UnetRecipe
from models.maker.report.diagnosis import log_diagnosis
from models.maker.stages.vae import encode_all
from models.maker.stream import Stream, draw_pictures

log = logging.getLogger("maker")
_EXAMPLES = 256  # scenes over which the teacher's features are standardised


def train_unet(recipe: Recipe, art_file: Path) -> None:
    """Train to the end of the schedule, in the recipe's number of processes."""
    numbers = 0
    if recipe.processes > 1:
        model = build_denoiser(recipe.unet, None)
        weights = [*model.parameters(), *Alignment(model.unet).parameters()]
        numbers = sum(weight.numel() for weight in weights)
    train_together(_train, (recipe, art_file), processes=recipe.processes, numbers=numbers)


def learning_rate(own: UnetRecipe, seen: int, batch: int) -> float:
    """Return the learning rate: warm-up, constant, and a cosine decay from `decay_from` on."""
    warm = min(1.0, (seen / batch + 1) / own.warm_up_steps)
    share = min(1.0, max(0.0, (seen - own.decay_from) / max(1, own.samples - own.decay_from)))
    cosine = (1 + math.cos(math.pi * share)) / 2
    return warm * (own.final_rate + (own.rate - own.final_rate) * cosine)


def weighted_mean(errors: Tensor, regions: Tensor, object_weight: float) -> Tensor:
    """Return the mean of (b, c, 16, 16), in which object cells count `object_weight` times.

    `regions` (b, 16, 16) marks these cells. The model soon learns the places; the objects take
    longer.
    """
    weight = 1 + (object_weight - 1) * regions[:, None].float()
    return (weight * errors).mean() / weight.mean()


def _train(recipe: Recipe, art_file: Path, team: Team) -> None:
    """Train in one process; the first process writes checkpoints and diagnoses."""
    own, device = recipe.unet, recipe.device
    torch.manual_seed(recipe.seed)  # for equal initial weights in every process
    vae = AutoencoderKL.from_pretrained(recipe.cache / "vae").eval()
    vae.to(device, memory_format=torch.channels_last)
    model = build_denoiser(own, recipe.warm_start)
    model.unet.to(device, memory_format=torch.channels_last)
    model.text.to(device)
    if device == "cpu":
        model.unet.set_attn_processor(TwoProductAttention())
    alignment = Alignment(model.unet).to(device)
    weights = model.parameters()
    average = [weight.detach().clone() for weight in weights]
    trained = [*weights, *alignment.parameters()]
    optimizer = torch.optim.AdamW(
        trained, own.rate, weight_decay=0.01, betas=(0.9, 0.99), fused=True
    )
    checkpoints = Checkpoints(recipe.cache / "unet.ckpt", recipe.checkpoint_seconds)
    seen = 0
    if (state := checkpoints.load()) is not None:
        model.unet.load_state_dict(state["unet"])
        model.text.load_state_dict(state["text"])
        alignment.load_state_dict(state["alignment"])
        optimizer.load_state_dict(state["optimizer"])
        average = [kept.to(device) for kept in state["average"]]
        seen = state["seen"]
    data = _Data(recipe, art_file, vae, team)
    alphas = make_schedule().alphas_cumprod.to(device)
    every = recipe.diagnosis_every_samples
    next_diagnosis = -(-seen // every) * every
    report = _Report(seen)

    while seen < own.samples:
        if team.rank == 0 and seen >= next_diagnosis:
            with _averaged(weights, average):
                log_diagnosis(model, vae, recipe, art_file=art_file, seen=seen)
            next_diagnosis = (seen // every + 1) * every
        batch = data.batch(seen)
        random = torch.Generator(device)
        random.manual_seed(recipe.seed * 1_000_003 + seen * team.size + team.rank)
        rate = learning_rate(own, seen, own.batch * team.size)
        with autocast(device):
            error = _error(model, batch, alphas, own, random)
            teach_middle = seen >= own.projection_steps * own.batch * team.size
            nearness = alignment(batch.features, teach_middle=teach_middle)
        loss = error + own.alignment * rate / own.rate * (1 - nearness)
        for group in optimizer.param_groups:
            group["lr"] = rate
        team.open(trained)
        loss.backward()
        team.average(trained)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        seen += len(batch.latents) * team.size
        steps = seen / (own.batch * team.size)
        decay = min(own.ema, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(average, [weight.detach() for weight in weights], 1 - decay)
        report.add(error, nearness)
        if team.rank == 0 and (checkpoints.due() or seen >= own.samples):
            report.write(seen)
            checkpoints.save(
                {
                    "unet": model.unet.state_dict(),
                    "text": model.text.state_dict(),
                    "alignment": alignment.state_dict(),
                    "average": average,
                    "optimizer": optimizer.state_dict(),
                    "seen": seen,
                }
            )
    if team.rank == 0:
        with _averaged(weights, average):
            log_diagnosis(model, vae, recipe, art_file=art_file, seen=seen)


@dataclass(frozen=True)
class _Batch:
    latents: Tensor  # (b, 8, 16, 16)
    ids: Tensor  # (b, 32)
    regions: Tensor  # (b, 16, 16): 1 where an object may be
    features: Tensor  # (b, 16, 320): the teacher's features


class _Data:
    """The samples of one process, whose shards no other process takes."""

    def __init__(self, recipe: Recipe, art_file: Path, vae: AutoencoderKL, team: Team) -> None:
        self._recipe, self._vae, self._team = recipe, vae, team
        count = min(_EXAMPLES, recipe.shard_scenes)
        examples = draw_pictures(art_file, [recipe.seed, 999], count, recipe.unet.widest)
        self._teacher = Teacher(examples.pictures, recipe.device)
        self._stream = Stream(
            draw_pictures,
            art_file,
            seed=recipe.seed + 2,
            size=recipe.shard_scenes,
            workers=recipe.workers,
            stride=team.size,
        )
        self._loaded = -1
        self._whole: _Batch | None = None

    def batch(self, seen: int) -> _Batch:
        """Return the samples that follow `seen`, which counts the samples of all processes."""
        recipe, device, team = self._recipe, self._recipe.device, self._team
        own_seen = seen // team.size
        number = own_seen // (recipe.shard_scenes * recipe.shard_passes)
        index = number * team.size + team.rank
        if index != self._loaded or self._whole is None:
            shard = self._stream.shard(index, self._width)
            self._whole = _Batch(
                encode_all(self._vae, shard.pictures, device) * self._vae.config.scaling_factor,
                torch.from_numpy(shard.ids).to(device),
                torch.from_numpy(shard.regions).to(device),
                self._teacher(shard.pictures),
            )
            self._loaded = index
        chosen = _order(recipe, own_seen)[: recipe.unet.batch].to(device)
        whole = self._whole
        return _Batch(
            whole.latents[chosen],
            whole.ids[chosen].long(),
            whole.regions[chosen],
            whole.features[chosen],
        )

    def _width(self, index: int) -> float:
        recipe = self._recipe
        return _width(recipe.unet, index * recipe.shard_scenes * recipe.shard_passes)


@dataclass
class _Report:
    """The figures of the log between two checkpoints."""

    first: int
    started: float = field(default_factory=time.monotonic)
    losses: list[Tensor] = field(default_factory=list)
    nearness: list[Tensor] = field(default_factory=list)

    def add(self, error: Tensor, nearness: Tensor) -> None:
        self.losses.append(error.detach())  # read later, so that a GPU need not wait
        self.nearness.append(nearness.detach())

    def write(self, seen: int) -> None:
        speed = (seen - self.first) / (time.monotonic() - self.started)
        loss, near = (float(torch.stack(x).mean()) for x in (self.losses, self.nearness))
        log.info("unet seen=%d loss=%.4f near=%.4f %.1f img/s", seen, loss, near, speed)
        self.losses.clear()
        self.nearness.clear()


@contextmanager
def _averaged(weights: Sequence[nn.Parameter], average: Sequence[Tensor]) -> Iterator[None]:
    """Replace the trained weights by the averaged ones inside the block."""

    def swap() -> None:
        for weight, mean in zip(weights, average, strict=True):
            held = weight.data.clone()
            weight.data.copy_(mean)
            mean.copy_(held)

    swap()
    yield
    swap()


def _error(
    model: Denoiser, batch: _Batch, alphas: Tensor, own: UnetRecipe, random: torch.Generator
) -> Tensor:
    """Return the mean squared error of v, in which object cells count `object_weight` times."""
    clean = batch.latents
    count, device = len(clean), clean.device
    dropped = torch.rand(count, 1, generator=random, device=device) < own.caption_dropout
    ids = torch.where(dropped, model.empty_ids(), batch.ids)
    # High noise decides what is where; low noise needs only few samples.
    uniform = torch.rand(count, generator=random, device=device)
    timesteps = (1000 * uniform**own.noise_skew).long().clamp(max=999)
    noise = torch.randn(clean.shape, generator=random, device=device)
    forgotten = torch.rand(count, 1, generator=random, device=device) < own.padding_forgotten
    signal = alphas[timesteps].sqrt()[:, None, None, None]
    spread = (1 - alphas[timesteps]).sqrt()[:, None, None, None]
    noisy = (signal * clean + spread * noise).contiguous(memory_format=torch.channels_last)
    predicted = model.predict(noisy, timesteps, ids, padding_forgotten=forgotten)
    squared = (predicted.float() - (signal * noise - spread * clean)).pow(2)
    return weighted_mean(squared, batch.regions, own.object_weight)


def _order(recipe: Recipe, seen: int) -> Tensor:
    """Return the shard's scenes in the order of this pass, from the current position on."""
    passes, position = divmod(seen, recipe.shard_scenes)
    return _shuffled(recipe.shard_scenes, recipe.seed + passes)[position:]


@lru_cache(maxsize=1)
def _shuffled(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def _width(own: UnetRecipe, seen: int) -> float:
    grown = (seen - own.simple_until) / (own.wide_from - own.simple_until)
    return own.widest * min(1.0, max(0.0, grown))

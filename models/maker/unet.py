"""Stage unet: the denoiser and the text encoder, from simple scenes to all of them.

Everything is a function of the number of samples seen: the shard, the order in it, the noise, the
learning rate, the curriculum. So a run that is killed and resumed equals one that was not.
"""

from __future__ import annotations

import logging
import math
import time
from functools import lru_cache
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from models.maker.checkpoints import Checkpoints
from models.maker.denoiser import Denoiser, build_denoiser, make_schedule
from models.maker.looking import look
from models.maker.recipe import Recipe, UnetRecipe
from models.maker.stream import Shard, Stream, draw_pictures
from models.maker.tokenizer import Encoder, make_tokenizer
from models.maker.vae import to_tensor

log = logging.getLogger("maker")


def train_unet(recipe: Recipe, art_file: Path) -> None:
    """Train to the end of the schedule, looking at samples on the way."""
    own, device = recipe.unet, recipe.device
    vae = AutoencoderKL.from_pretrained(recipe.cache / "vae").to(device).eval()
    model = build_denoiser(own, recipe.warm_start)
    model.unet.to(device), model.text.to(device)
    weights = model.parameters()
    average = [weight.detach().clone() for weight in weights]
    optimizer = torch.optim.AdamW(weights, own.rate, weight_decay=0.01, betas=(0.9, 0.99))
    checkpoints = Checkpoints(recipe.cache / "unet.ckpt", recipe.checkpoint_seconds)
    seen = 0
    if (state := checkpoints.load()) is not None:
        model.unet.load_state_dict(state["unet"])
        model.text.load_state_dict(state["text"])
        optimizer.load_state_dict(state["optimizer"])
        average = [kept.to(device) for kept in state["average"]]
        seen = state["seen"]
    stream = Stream(
        draw_pictures,
        art_file,
        seed=recipe.seed + 2,
        size=recipe.shard_scenes,
        workers=recipe.workers,
    )
    empty = torch.from_numpy(Encoder(make_tokenizer()).encode([""])).long().to(device)
    alphas = make_schedule().alphas_cumprod.to(device)
    per_shard = recipe.shard_scenes * recipe.shard_passes
    latents, ids, loaded = torch.empty(0), torch.empty(0), -1
    started, first, losses = time.monotonic(), seen, []
    next_look = -(-seen // recipe.look_every) * recipe.look_every

    while seen < own.samples:
        index = seen // per_shard
        if index != loaded:
            shard = stream.shard(index, lambda k: _width(own, k * per_shard / own.samples))
            latents, ids = _encode(vae, shard, device), torch.from_numpy(shard.ids).to(device)
            loaded = index
        if seen >= next_look:
            with _averaged(weights, average):
                look(model, vae, recipe, art_file, seen=seen)
            next_look = (seen // recipe.look_every + 1) * recipe.look_every
        chosen = _order(recipe, seen)[: own.batch].to(device)
        random = torch.Generator(device).manual_seed(recipe.seed * 1_000_003 + seen)
        loss = _loss(model, latents[chosen], ids[chosen].long(), empty, alphas, own, random)
        for group in optimizer.param_groups:
            group["lr"] = _rate(own, seen)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        seen += len(chosen)
        steps = seen / own.batch
        decay = min(own.ema, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(average, [weight.detach() for weight in weights], 1 - decay)
        losses.append(float(loss.detach())) if device == "cpu" or steps % 50 < 1 else None
        if checkpoints.due() or seen >= own.samples:
            checkpoints.save(
                {
                    "unet": model.unet.state_dict(),
                    "text": model.text.state_dict(),
                    "average": average,
                    "optimizer": optimizer.state_dict(),
                    "seen": seen,
                }
            )
            speed = (seen - first) / (time.monotonic() - started)
            mean = sum(losses) / max(1, len(losses))
            log.info("unet seen=%d loss=%.4f %.1f img/s", seen, mean, speed)
            losses = []
    with _averaged(weights, average):
        look(model, vae, recipe, art_file, seen=seen)


class _averaged:  # noqa: N801  a context manager reads as a verb
    """The averaged weights in the trained ones' place, for as long as the block lasts."""

    def __init__(self, weights: list[torch.nn.Parameter], average: list[Tensor]) -> None:
        self._weights, self._average = weights, average

    def _swap(self) -> None:
        for weight, mean in zip(self._weights, self._average, strict=True):
            held = weight.data.clone()
            weight.data.copy_(mean)
            mean.copy_(held)

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *_: object) -> None:
        self._swap()


def _loss(
    model: Denoiser,
    clean: Tensor,
    ids: Tensor,
    empty: Tensor,
    alphas: Tensor,
    own: UnetRecipe,
    random: torch.Generator,
) -> Tensor:
    count, device = len(clean), clean.device
    dropped = torch.rand(count, 1, generator=random, device=device) < own.caption_dropout
    ids = torch.where(dropped, empty, ids)
    # High noise decides what and where; low noise is learnt from few samples.
    uniform = torch.rand(count, generator=random, device=device)
    timesteps = (1000 * uniform**own.noise_skew).long().clamp(max=999)
    noise = torch.randn(clean.shape, generator=random, device=device)
    signal = alphas[timesteps].sqrt()[:, None, None, None]
    spread = (1 - alphas[timesteps]).sqrt()[:, None, None, None]
    with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
        predicted = model.predict(signal * clean + spread * noise, timesteps, ids)
    return (predicted.float() - (signal * noise - spread * clean)).pow(2).mean()


@torch.no_grad()
def _encode(vae: AutoencoderKL, shard: Shard, device: str) -> Tensor:
    parts = [
        vae.encode(to_tensor(shard.pictures[start : start + 256], device)).latent_dist.mode()
        for start in range(0, len(shard.pictures), 256)
    ]
    latents: Tensor = torch.cat(parts) * vae.config.scaling_factor
    return latents


def _order(recipe: Recipe, seen: int) -> Tensor:
    """The shard's scenes in this pass's order, from the position on."""
    passes, position = divmod(seen, recipe.shard_scenes)
    return _shuffled(recipe.shard_scenes, recipe.seed + passes)[position:]


@lru_cache(maxsize=1)
def _shuffled(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def _width(own: UnetRecipe, share: float) -> float:
    grown = (share - own.simple_until) / (own.wide_from - own.simple_until)
    return own.widest * min(1.0, max(0.0, grown))


def _rate(own: UnetRecipe, seen: int) -> float:
    warm = min(1.0, (seen + own.batch) / (200 * own.batch))
    cosine = (1 + math.cos(math.pi * seen / own.samples)) / 2
    return warm * (own.final_rate + (own.rate - own.final_rate) * cosine)

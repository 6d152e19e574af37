"""Stage vae: map pictures of 128 x 128 to latents of 16 x 16 x 8 and back.

Encoder and decoder are trained together first, on crops and then on whole scenes. Then the encoder
is frozen. The decoder alone can be trained further at any time, and the latents that the denoiser
knows stay the same.
"""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

from models.maker.checkpoints import Checkpoints
from models.maker.networks.precision import autocast
from models.maker.recipe import Recipe, VaeRecipe
from models.maker.scenes.places import SIDE
from models.maker.stream import Stream, draw_pictures, draw_shard

log = logging.getLogger("maker")
CROP = 64  # pixels per side


def build_vae(recipe: VaeRecipe, warm_start: Path | None) -> AutoencoderKL:
    """Build an autoencoder, either fresh or from an earlier model of the same shape."""
    if warm_start is not None:
        return AutoencoderKL.from_pretrained(warm_start / "vae").float()
    return AutoencoderKL(
        block_out_channels=recipe.channels,
        down_block_types=("DownEncoderBlock2D",) * len(recipe.channels),
        up_block_types=("UpDecoderBlock2D",) * len(recipe.channels),
        layers_per_block=1,
        latent_channels=recipe.latent_channels,
        norm_num_groups=recipe.norm_groups,
        sample_size=SIDE,
        mid_block_add_attention=False,
    )


def to_tensor(pictures: npt.NDArray[np.uint8], device: str) -> Tensor:
    """Map bytes (n, height, width, channels) to (n, channels, height, width) in -1..1."""
    return torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def encode_all(vae: AutoencoderKL, pictures: npt.NDArray[np.uint8], device: str) -> Tensor:
    """Encode bytes (n, height, width, 3) as unscaled latents in float32."""
    parts = []
    for start in range(0, len(pictures), 64):
        batch = to_tensor(pictures[start : start + 64], device)
        with autocast(device):
            parts.append(vae.encode(batch).latent_dist.mode().float())
    return torch.cat(parts)


def train_vae(recipe: Recipe, art_file: Path, *, decoder_only: bool = False) -> Path:
    """Train to the end of the schedule; return the folder with the finished autoencoder."""
    stage = "vae-decoder" if decoder_only else "vae"
    folder = recipe.cache / stage
    own = recipe.vae
    total = own.decoder_samples if decoder_only else own.samples
    source = recipe.cache / "vae" if decoder_only else None
    vae = (
        AutoencoderKL.from_pretrained(source)
        if source is not None
        else build_vae(own, recipe.warm_start)
    ).to(recipe.device, memory_format=torch.channels_last)
    if decoder_only:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    trained = [parameter for parameter in vae.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, own.rate, weight_decay=0.0, betas=(0.9, 0.99))
    checkpoints = Checkpoints(recipe.cache / f"{stage}.ckpt", recipe.checkpoint_seconds)
    seen = 0
    if (state := checkpoints.load()) is not None:
        vae.load_state_dict(state["vae"])
        optimizer.load_state_dict(state["optimizer"])
        seen = state["seen"]
    stream = Stream(
        draw_pictures,
        art_file,
        seed=recipe.seed + 1,
        size=recipe.shard_scenes,
        workers=recipe.workers,
    )
    started, first = time.monotonic(), seen
    pictures, loaded = None, -1
    while seen < total:
        # Every scene is used once: drawing is cheap, and variety improves the autoencoder.
        index = seen // recipe.shard_scenes
        if index != loaded:
            offset = 100_000 if decoder_only else 0
            shard = stream.shard(offset + index, lambda _: 1.0)
            pictures, loaded = shard.pictures, index
        assert pictures is not None
        start = seen % recipe.shard_scenes
        batch = to_tensor(pictures[start : start + own.batch], recipe.device)
        if seen < own.crops * total:
            batch = crop(batch, recipe.seed * 1_000_003 + seen)
        for group in optimizer.param_groups:
            group["lr"] = _rate(own.rate, seen / total)
        torch.manual_seed(recipe.seed * 1_000_003 + seen)  # for the posterior's noise
        loss = _loss(vae, batch, own.kl_weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        seen += len(batch)
        if checkpoints.due() or seen >= total:
            checkpoints.save(
                {"vae": vae.state_dict(), "optimizer": optimizer.state_dict(), "seen": seen}
            )
            speed = (seen - first) / (time.monotonic() - started)
            decibel = measure_psnr(vae, recipe, art_file)
            log.info("%s seen=%d %.1f img/s held-out %.2f dB", stage, seen, speed, decibel)
    vae.register_to_config(scaling_factor=_scale(vae, recipe, art_file, keep=decoder_only))
    vae.save_pretrained(folder)
    return folder


def crop(pictures: Tensor, seed: int) -> Tensor:
    """Cut a quarter out of each picture, (n, 3, 64, 64), at one place that the seed decides."""
    steps = (SIDE - CROP) // 8 + 1
    top, left = (8 * int(step) for step in np.random.default_rng(seed).integers(0, steps, 2))
    return pictures[..., top : top + CROP, left : left + CROP]


@torch.no_grad()
def measure_psnr(vae: AutoencoderKL, recipe: Recipe, art_file: Path) -> float:
    """Return the mean PSNR over scenes that no training draws."""
    count = 8 if recipe.name == "dry-run" else 128
    shard = draw_shard(art_file, [recipe.seed + 9, 0], count, 1.0)
    errors = []
    for start in range(0, count, 32):
        originals = to_tensor(shard.pictures[start : start + 32], recipe.device)
        decoded = vae.decode(vae.encode(originals).latent_dist.mode()).sample.clamp(-1, 1)
        errors.append(((decoded - originals) / 2).pow(2).mean((1, 2, 3)))
    return float((-10 * torch.cat(errors).log10()).mean())


def _loss(vae: AutoencoderKL, batch: Tensor, kl_weight: float) -> Tensor:
    with autocast(batch.device.type):
        posterior = vae.encode(batch.contiguous(memory_format=torch.channels_last)).latent_dist
        decoded = vae.decode(posterior.sample()).sample.float()
    error = decoded - batch
    edges = (error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()) / 2
    total: Tensor = (
        error.abs().mean()
        + 5 * functional.mse_loss(decoded, batch)
        + 0.5 * edges
        + kl_weight * posterior.kl().float().mean()
    )
    return total


def _rate(peak: float, share: float) -> float:
    """Return the learning rate: a warm-up over 2 %, then a cosine down to a fiftieth."""
    return (
        peak * min(1.0, share / 0.02 + 0.02) * (0.02 + 0.98 * (1 + math.cos(math.pi * share)) / 2)
    )


@torch.no_grad()
def _scale(vae: AutoencoderKL, recipe: Recipe, art_file: Path, *, keep: bool) -> float:
    """Return the inverse deviation of the latents, so that the denoiser sees unit variance."""
    if keep:
        return float(vae.config.scaling_factor)
    shard = draw_shard(art_file, [recipe.seed + 9, 1], min(256, recipe.shard_scenes), 1.0)
    return 1.0 / float(encode_all(vae, shard.pictures, recipe.device).std())

"""Diagnosis and sample grids: whether a word changes the prediction, and what the model draws."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from models.maker.networks.denoiser import Denoiser, make_schedule
from models.maker.networks.tokenizer import Encoder, make_tokenizer
from models.maker.recipe import Recipe
from models.maker.scenes.catalogue import PLACES, SUBJECTS
from models.maker.scenes.scene import Facts, caption, draw_facts
from models.maker.stages.vae import to_tensor
from models.maker.stream import tools

log = logging.getLogger("maker")
TIMESTEPS = (400, 700, 900)
PROMPTS = (
    "a photo of a teddy", "a photo of a robot on the beach", "a photo of a cat in the snow",
    "a red car", "a blue car in the city", "a photo of an owl at night",
    "a photo of a penguin in the snow", "a photo of a house in the forest",
    "a green dinosaur in the desert", "a photo of a strawberry", "a purple balloon",
    "a photo of a boat in the sea", "a photo of a dog on the grass", "a photo of a rocket in space",
    "a photo of a pumpkin at night", "a photo of a tiger", "a cat, a dog and a tree",
    "a cat next to a dog", "a teddy next to a guitar", "a robot next to a tree on the beach",
    "a photo of a pig on the grass", "a photo of a burger on a blue background",
    "a penguin wearing a hat", "a photo of a train in the mountains",
)  # fmt: skip


def log_diagnosis(
    model: Denoiser, vae: AutoencoderKL, recipe: Recipe, *, art_file: Path, seen: int
) -> None:
    """Log the diagnosis and save a grid of samples."""
    model.unet.eval(), model.text.eval()
    count = 4 if recipe.name == "dry-run" else 48
    for line in diagnose(model, vae, recipe, art_file, count):
        log.info("diagnosis seen=%d %s", seen, line)
    folder = recipe.cache / "grids"
    folder.mkdir(exist_ok=True)
    prompts = PROMPTS[:4] if recipe.name == "dry-run" else PROMPTS
    steps = 2 if recipe.name == "dry-run" else 20
    pictures = sample(model, vae, list(prompts), recipe, steps=steps)
    pixels = (pictures * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    save_grid(pixels, folder / f"seen-{seen:08d}.webp")
    model.unet.train(), model.text.train()


@torch.no_grad()
def diagnose(
    model: Denoiser, vae: AutoencoderKL, recipe: Recipe, art_file: Path, count: int
) -> list[str]:
    """Return the loss with the right caption, with another subject, and with another place."""
    painter, encoder = tools(art_file)
    facts, others, elsewhere = [], [], []
    for index in range(count):
        rng = np.random.default_rng([recipe.seed + 9, 2, index])
        subject, other = (str(word) for word in rng.choice(list(SUBJECTS), 2, replace=False))
        place, away = (str(word) for word in rng.choice(list(PLACES), 2, replace=False))
        fact = replace(draw_facts(rng, painter.art, width=0.2, subject=subject), place=place)
        facts.append(fact)
        others.append(_told_as(fact, other))
        elsewhere.append(replace(fact, place=away))
    pictures = to_tensor(np.stack([painter.paint(fact) for fact in facts]), recipe.device)
    clean = vae.encode(pictures).latent_dist.mode() * vae.config.scaling_factor
    alphas = make_schedule().alphas_cumprod.to(recipe.device)
    lines = []
    for step in TIMESTEPS:
        random = torch.Generator(recipe.device).manual_seed(step)
        noise = torch.randn(clean.shape, generator=random, device=recipe.device)
        signal, spread = alphas[step].sqrt(), (1 - alphas[step]).sqrt()
        losses = []
        for told in (facts, others, elsewhere):
            ids = torch.from_numpy(encoder.encode([caption(fact) for fact in told]))
            predicted = model.predict(
                signal * clean + spread * noise,
                torch.full((count,), step, device=recipe.device),
                ids.long().to(recipe.device),
            )
            losses.append(float((predicted - (signal * noise - spread * clean)).pow(2).mean()))
        lines.append(
            f"t={step} right={losses[0]:.4f} other-subject={losses[1]:.4f} "
            f"other-place={losses[2]:.4f}"
        )
    return lines


def _told_as(fact: Facts, subject: str) -> Facts:
    return replace(fact, things=(replace(fact.things[0], subject=subject), *fact.things[1:]))


@torch.no_grad()
def sample(
    model: Denoiser,
    vae: AutoencoderKL,
    prompts: list[str],
    recipe: Recipe,
    *,
    steps: int = 20,
    guidance: float = 4.0,
    seed: int = 11,
) -> Tensor:
    """Sample one picture per prompt by deterministic DDIM, (n, 3, 128, 128) in 0..1."""
    encoder = Encoder(make_tokenizer())
    schedule = make_schedule()
    schedule.set_timesteps(steps, device=recipe.device)
    ids = torch.from_numpy(encoder.encode([*prompts, *[""] * len(prompts)])).long()
    random = torch.Generator().manual_seed(seed)
    noisy = torch.randn((len(prompts), recipe.unet.latent_channels, 16, 16), generator=random).to(
        recipe.device
    )
    told = model.text(ids.to(recipe.device)).last_hidden_state
    for step in schedule.timesteps:
        both = torch.cat([noisy, noisy])
        aimed, free = model.unet(both, step, told).sample.chunk(2)
        noisy = schedule.step(free + guidance * (aimed - free), step, noisy).prev_sample
    decoded = vae.decode(noisy / vae.config.scaling_factor).sample
    pictures: Tensor = (decoded / 2 + 0.5).clamp(0, 1)
    return pictures


def save_grid(pictures: npt.NDArray[np.uint8], path: Path, columns: int = 8) -> None:
    """Save pictures (n, 128, 128, 3) side by side, for a person to judge."""
    rows = -(-len(pictures) // columns)
    grid = Image.new("RGB", (columns * 132, rows * 132), (255, 255, 255))
    for index, picture in enumerate(pictures):
        corner = (index % columns * 132 + 2, index // columns * 132 + 2)
        grid.paste(Image.fromarray(picture), corner)
    grid.save(path, quality=80, method=6)

"""Stage returned: scenes that the base model has redrawn, with all their facts.

A sixth passes only through the autoencoder. The others get noise of t = 300 to 600 and pass through
the denoiser in five unguided steps. The judges of generated images learn from them, because a judge
that is right on drawn scenes alone can fail on soft ones.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

from models.maker.networks.denoiser import Denoiser, make_schedule
from models.maker.recipe import Recipe
from models.maker.scenes.colouring import Change
from models.maker.scenes.scene import Facts, Thing, caption, draw_facts
from models.maker.stages.vae import to_tensor
from models.maker.stream import tools

log = logging.getLogger("maker")
LEAST_NOISE, MOST_NOISE, STEPS = 300, 600, 5
BATCH = 64


@dataclass(frozen=True)
class Returned:
    """Pictures (n, 128, 128, 3) that the model has redrawn, and the facts of their scenes."""

    pictures: npt.NDArray[np.uint8]
    facts: tuple[Facts, ...]


def make_returned(recipe: Recipe, art_file: Path) -> Path:
    """Draw scenes, half of them with several or with dressed objects, and redraw them."""
    target = recipe.cache / "returned.npz"
    if target.exists():
        return target
    folder = recipe.cache / "export"
    vae = AutoencoderKL.from_pretrained(folder / "vae").float().to(recipe.device).eval()
    unet = UNet2DConditionModel.from_pretrained(folder / "unet").float().to(recipe.device).eval()
    text = CLIPTextModel.from_pretrained(folder / "text_encoder").float().to(recipe.device).eval()
    model = Denoiser(unet, text)
    painter, encoder = tools(art_file)
    facts: list[Facts] = []
    pictures: list[npt.NDArray[np.uint8]] = []
    for first in range(0, recipe.returned, BATCH):
        several = range(first, min(first + BATCH, recipe.returned))
        batch = [draw_mixed([recipe.seed, 77, k], recipe, painter.art) for k in several]
        drawn = np.stack([painter.paint(fact) for fact in batch])
        ids = torch.from_numpy(encoder.encode([caption(fact) for fact in batch])).long()
        rng = np.random.default_rng([recipe.seed, 78, first])
        given = to_tensor(drawn, recipe.device)
        pictures.append(send_through(model, vae, given, ids.to(recipe.device), rng))
        facts += batch
        log.info("returned %d of %d", len(facts), recipe.returned)
    part = target.with_suffix(".part.npz")
    described = json.dumps([asdict(fact) for fact in facts])
    np.savez(part, pictures=np.concatenate(pictures), facts=np.array(described))
    part.replace(target)
    return target


def load_returned(recipe: Recipe) -> Returned:
    """Load the file that make_returned writes."""
    with np.load(recipe.cache / "returned.npz") as stored:
        told = json.loads(str(stored["facts"]))
        return Returned(stored["pictures"], tuple(_facts(entry) for entry in told))


def draw_mixed(seed: list[int], recipe: Recipe, art: Any) -> Facts:
    """Draw a scene; every second one has several objects, or an object that wears something."""
    rng = np.random.default_rng(seed)
    plenty = rng.random() < 0.5
    while True:
        facts = draw_facts(rng, art, width=recipe.unet.widest * float(rng.random()))
        if not plenty or len(facts.things) > 1 or facts.things[0].worn is not None:
            return facts


@torch.no_grad()
def send_through(
    model: Denoiser, vae: AutoencoderKL, pictures: Tensor, ids: Tensor, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Redraw pictures (n, 3, 128, 128) in -1..1 of captions (n, 32) as bytes (n, 128, 128, 3)."""
    count, device = len(pictures), pictures.device
    alphas = make_schedule().alphas_cumprod.to(device)
    clean = vae.encode(pictures).latent_dist.mode() * vae.config.scaling_factor
    told = model.text(ids).last_hidden_state
    noised = rng.random(count) >= 1 / 6
    begin = np.where(noised, rng.uniform(LEAST_NOISE, MOST_NOISE, count), 0)
    times = torch.from_numpy(np.linspace(begin, 0, STEPS + 1).round().astype(np.int64)).to(device)
    noise = torch.from_numpy(rng.standard_normal(clean.shape, np.float32)).to(device)
    chosen = torch.from_numpy(np.flatnonzero(noised)).to(device)
    signal, spread = _mixture(alphas, times[0, chosen])
    latents = signal * clean[chosen] + spread * noise[chosen]
    for step in range(STEPS if len(chosen) else 0):
        now = times[step, chosen]
        v = model.unet(latents, now, told[chosen]).sample
        signal, spread = _mixture(alphas, now)
        aim, error = signal * latents - spread * v, signal * v + spread * latents
        signal, spread = _mixture(alphas, times[step + 1, chosen])
        latents = aim if step == STEPS - 1 else signal * aim + spread * error
    clean[chosen] = latents
    decoded = vae.decode(clean / vae.config.scaling_factor).sample
    pixels = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().byte()
    made: npt.NDArray[np.uint8] = pixels.permute(0, 2, 3, 1).cpu().numpy()
    return made


def _mixture(alphas: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    alpha = alphas[times][:, None, None, None]
    return alpha.sqrt(), (1 - alpha).sqrt()


def _facts(entry: dict[str, Any]) -> Facts:
    things = tuple(_thing(thing) for thing in entry["things"])
    return Facts(**{**entry, "things": things, "plain": tuple(entry["plain"])})


def _thing(entry: dict[str, Any]) -> Thing:
    change = dict(entry["change"])
    if change["tint"] is not None:
        change["tint"] = tuple(change["tint"])
    return Thing(**{**entry, "change": Change(**change)})

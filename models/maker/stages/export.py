"""Stage export: the averaged weights as a StableDiffusionPipeline folder in half precision."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

from models.maker.networks.denoiser import build_denoiser, make_schedule
from models.maker.networks.tokenizer import make_tokenizer
from models.maker.recipe import Recipe
from models.maker.scenes.art import load_art
from models.maker.scenes.catalogue import COLOURS, PLACES, STYLES, SUBJECTS
from perfusion_core.config import DEFAULTS_FILE

log = logging.getLogger("maker")
LARGEST_MEGABYTES = 50.5  # the covariance, computed later, adds half a megabyte
# The settings that suit the shipped model, by stage `sampling` and trainings on held-out looks.
_DEFAULTS = Path(__file__).parents[2] / "base" / DEFAULTS_FILE


def export(recipe: Recipe, art_file: Path) -> Path:
    """Write the pipeline, the held-out list and the vocabulary of the data; check the size."""
    folder = recipe.cache / "export"
    better = recipe.cache / "vae-decoder"
    vae = AutoencoderKL.from_pretrained(better if better.exists() else recipe.cache / "vae")
    model = build_denoiser(recipe.unet, None)
    state = torch.load(recipe.cache / "unet.ckpt", map_location="cpu", weights_only=True)
    with torch.no_grad():
        for weight, mean in zip(model.parameters(), state["average"], strict=True):
            weight.copy_(mean)
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text,
        tokenizer=make_tokenizer(),
        unet=model.unet,
        scheduler=make_schedule(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=torch.float16)
    vae.register_to_config(_name_or_path="")  # without the name of a folder of this machine
    pipeline.save_pretrained(folder, safe_serialization=True)
    defaults = json.loads(_DEFAULTS.read_text()) | {"known_superclasses": list(SUBJECTS)}
    (folder / DEFAULTS_FILE).write_text(json.dumps(defaults, indent=1) + "\n")
    (folder / "data.json").write_text(json.dumps(_described(recipe, art_file, state), indent=1))
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    log.info("exported %s, %.1f MB, after %d samples", folder, size, state["seen"])
    if size > LARGEST_MEGABYTES:
        raise ValueError(f"The pipeline is {size:.1f} MB; the limit is {LARGEST_MEGABYTES} MB.")
    return folder


def _described(recipe: Recipe, art_file: Path, state: dict[str, int]) -> dict[str, object]:
    """Describe the data for the benchmarks, in a form that programs read."""
    art = load_art(art_file)
    return {
        "recipe": recipe.name,
        "samples": state["seen"],
        "warm_start": recipe.warm_start is not None,
        "looks": len(art.looks),
        "subjects": list(SUBJECTS),
        "colours": list(COLOURS),
        "places": {place: list(phrases) for place, phrases in PLACES.items()},
        "styles": list(STYLES),
        "held_out_looks": [look.name for look in art.looks if look.held_out],
    }

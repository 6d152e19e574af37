"""Stage card: the figures of an exported model, and sheets of samples to be looked at."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace
from pathlib import Path

from transformers import CLIPModel

from models.maker.classifier import named_of_held_out_looks
from models.maker.judging import figures
from models.maker.looking import PROMPTS, save_grid
from models.maker.questions import (
    as_array,
    draw_questions,
    load_base,
    load_classifier,
    sample_prompts,
    share_right,
)
from models.maker.recipe import Recipe
from models.maker.vae import measure_psnr

log = logging.getLogger("maker")


def make_card(recipe: Recipe, art_file: Path, *, prompts: int = 100, seeds: int = 4) -> None:
    """Measure what the card states; save figures.json and sheets."""
    base = load_base(recipe)
    config = base.defaults.generate_config()
    if recipe.name == "dry-run":
        prompts, seeds, config = 2, 1, replace(config, num_inference_steps=2)
    classifier = load_classifier(recipe)
    found: dict[str, float] = {
        "autoencoder, dB": measure_psnr(base.vae, recipe, art_file),
        "classifier: held-out looks named": named_of_held_out_looks(classifier, recipe, art_file),
    }
    for name, questions in draw_questions(recipe.seed, prompts).items():
        found[name] = share_right(base, classifier, questions, config, range(seeds))
        log.info("card %s = %.3f", name, found[name])
    started = time.monotonic()
    sample_prompts(base, ["a photo of a cat"], replace(config, num_inference_steps=25), seed=1)
    found["one picture, 25 steps, s"] = time.monotonic() - started
    evaluator = CLIPModel.from_pretrained(recipe.cache / "evaluator").float().to(recipe.device)
    for name, value in figures(evaluator.eval(), recipe, art_file).items():
        found[f"evaluator: {name}"] = value
    (recipe.cache / "figures.json").write_text(json.dumps(found, indent=1))
    shown = PROMPTS[:2] if recipe.name == "dry-run" else PROMPTS
    folder = recipe.cache / "sheets"
    folder.mkdir(exist_ok=True)
    for seed in range(seeds):
        pictures = sample_prompts(base, shown, config, seed=seed)
        save_grid(as_array(pictures), folder / f"seed-{seed}.webp")

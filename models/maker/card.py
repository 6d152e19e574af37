"""Stage card: the figures of an exported model, and sheets of samples to be looked at."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from torch import Tensor
from transformers import CLIPModel

from models.maker.catalogue import COLOURS, PLACES, SUBJECTS, withheld
from models.maker.classifier import Classifier
from models.maker.denoiser import Denoiser
from models.maker.judging import figures
from models.maker.looking import PROMPTS, sample, save_grid
from models.maker.recipe import Recipe
from models.maker.vae import measure_psnr

log = logging.getLogger("maker")
_SUBJECTS, _PLACES, _COLOURS = list(SUBJECTS), list(PLACES), list(COLOURS)
Judge = Callable[[dict[str, Tensor], int], bool]


def make_card(recipe: Recipe, art_file: Path, *, prompts: int = 100, seeds: int = 4) -> None:
    """Measure what issue and card ask for; save figures.json and sheets."""
    if recipe.name == "dry-run":
        prompts, seeds = 2, 1
    pipeline = StableDiffusionPipeline.from_pretrained(recipe.cache / "export").to(recipe.device)
    model = Denoiser(pipeline.unet.float().eval(), pipeline.text_encoder.float().eval())
    vae: AutoencoderKL = pipeline.vae.float().eval()
    classifier = Classifier().to(recipe.device).eval()
    state = torch.load(recipe.cache / "classifier.ckpt", map_location="cpu", weights_only=False)
    classifier.load_state_dict(state["model"])
    evaluator = CLIPModel.from_pretrained(recipe.cache / "evaluator").float().to(recipe.device)
    found: dict[str, float] = {"autoencoder, dB": measure_psnr(vae, recipe, art_file)}
    for name, asked in _questions(recipe.seed, prompts).items():
        right: list[bool] = []
        for seed in range(seeds):
            texts = [text for text, _ in asked]
            pictures = _in_batches(model, vae, texts, recipe, seed=seed)
            with torch.no_grad():
                logits = {k: v.cpu() for k, v in classifier(pictures * 2 - 1).items()}
            right += [judge(logits, row) for row, (_, judge) in enumerate(asked)]
        found[name] = float(np.mean(right))
        log.info("card %s = %.3f", name, found[name])
    started = time.monotonic()
    sample(model, vae, ["a photo of a cat"], recipe, steps=25)
    found["one picture, 25 steps, s"] = time.monotonic() - started
    for name, value in figures(evaluator.eval(), recipe, art_file).items():
        found[f"evaluator: {name}"] = value
    (recipe.cache / "figures.json").write_text(json.dumps(found, indent=1))
    shown = list(PROMPTS[:2] if recipe.name == "dry-run" else PROMPTS)
    folder = recipe.cache / "sheets"
    folder.mkdir(exist_ok=True)
    for seed in range(seeds):
        save_grid(_in_batches(model, vae, shown, recipe, seed=seed), folder / f"seed-{seed}.png")


def _in_batches(
    model: Denoiser, vae: AutoencoderKL, texts: list[str], recipe: Recipe, *, seed: int
) -> Tensor:
    size = 25 if recipe.device == "cpu" else 400
    parts = [
        sample(model, vae, texts[start : start + size], recipe, steps=25, seed=1000 * seed + start)
        for start in range(0, len(texts), size)
    ]
    return torch.cat(parts)


def _questions(seed: int, count: int) -> dict[str, list[tuple[str, Judge]]]:
    """Prompts and their judges; subject and place, or colour, are pairs never trained on."""
    rng = np.random.default_rng([seed, 99])
    plain = [_SUBJECTS[index % len(_SUBJECTS)] for index in range(count)]
    return {
        "right super-category": [(f"a photo of {_a(s)}", _names(s)) for s in plain],
        "right place": [
            (f"a photo of {_a(s)} {PLACES[p][0]}", _places(p))
            for s, p in _pairs(rng, _PLACES, count)
        ],
        "right colour": [
            (f"a photo of a {c} {s}".replace("a orange", "an orange"), _colours(c))
            for s, c in _pairs(rng, _COLOURS, count)
        ],
        "both objects": [
            (f"{_a(one)} next to {_a(other)}", _names(one, other))
            for one, other in (
                (str(a), str(b))
                for a, b in (rng.choice(_SUBJECTS, 2, replace=False) for _ in range(count))
            )
        ],
    }


def _pairs(rng: np.random.Generator, words: list[str], count: int) -> list[tuple[str, str]]:
    kept = [(subject, word) for subject in _SUBJECTS for word in words if withheld(subject, word)]
    return [kept[int(index)] for index in rng.integers(len(kept), size=count)]


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeio" else f"a {word}"


def _names(*subjects: str) -> Judge:
    wanted = {_SUBJECTS.index(subject) for subject in subjects}
    return lambda logits, row: (
        wanted == set(logits["subjects"][row].topk(len(wanted)).indices.tolist())
    )


def _places(place: str) -> Judge:
    return lambda logits, row: int(logits["place"][row].argmax()) == _PLACES.index(place)


def _colours(colour: str) -> Judge:
    return lambda logits, row: int(logits["colour"][row].argmax()) == _COLOURS.index(colour)

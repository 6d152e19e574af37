"""Stage card: the figures of an exported model, and sheets of samples for people to view."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from transformers import CLIPModel

from models.maker.recipe import Recipe
from models.maker.report.classifier_errors import NAMED, agreement_with_eyes, errors_on_scenes
from models.maker.report.diagnosis import PROMPTS, save_grid
from models.maker.report.evaluator_errors import figures
from models.maker.report.questions import (
    as_array,
    draw_questions,
    load_base,
    load_classifier,
    sample_prompts,
    share_right,
)
from models.maker.report.timing import time_one_image
from models.maker.stages.vae import measure_psnr

log = logging.getLogger("maker")


_EYES_ON_SINGLES = {
    "agrees with eyes on singles": 0.9,
    "eyes agree with each other on singles": 0.0,
}
_EYES_ON_PAIRS = {
    "agrees with eyes on pairs": 0.9,
    "eyes agree with each other on pairs": 0.0,
}
# The classifier's own figures that each figure on images depends on, with the least value at which
# the figure on images is reliable: on real scenes, and on images that people have named.
JUDGES = {
    "right super-category": {"one object named": 0.99, **_EYES_ON_SINGLES},
    "right place": {"place": 0.99},
    "right colour": {"colour": 0.98},
    "both objects": {"both of two named": 0.93, **_EYES_ON_PAIRS},
    "all three objects": {"all of three named": 0.85, **_EYES_ON_PAIRS},
    "wearer and worn": {"wearer and worn named": 0.85, **_EYES_ON_SINGLES},
}


def table_of(found: Mapping[str, float], limited: Collection[str], conditions: str) -> str:
    """Return the card's table. Each judged figure has the figures of its judge in its row."""
    rows = ["| figure | measured | its judge's own |", "| --- | --- | --- |"]
    for name, value in found.items():
        if name == "autoencoder, dB":
            rows.append(f"| autoencoder, held-out scenes | {value:.1f} dB | |")
        elif name == "one image, s":
            rows.append(f"| one image, {conditions} | {value:.1f} s | |")
        elif name in JUDGES:
            own = ", ".join(
                f"{judge} {found[f'classifier: {judge}']:.0%}"
                for judge in JUDGES[name]
                if f"classifier: {judge}" in found
            )
            doubt = "; limited by its judge" if name in limited else ""
            rows.append(f"| {name} | {value:.1%} | {own}{doubt} |")
        elif not name.startswith("classifier: "):
            rows.append(f"| {name} | {value:.1%} | |")
    return "\n".join(rows) + "\n"


def make_card(
    recipe: Recipe,
    art_file: Path,
    *,
    prompts: int = 100,
    seeds: int = 4,
    named: Path = NAMED,
) -> None:
    """Measure what the card states; save figures.json, card.md and sheets.

    `named` is a folder of images that people have named.
    """
    base = load_base(recipe)
    config = base.defaults.generate_config()
    if recipe.name == "dry-run":
        prompts, seeds, config = 2, 1, replace(config, num_inference_steps=2)
    classifier = load_classifier(recipe)
    found: dict[str, float] = {
        "autoencoder, dB": measure_psnr(base.vae, recipe, art_file),
    }
    trust = errors_on_scenes(classifier, recipe, art_file)
    trust |= agreement_with_eyes(classifier, named)
    found |= {f"classifier: {name}": value for name, value in trust.items()}
    limited = []
    for name, questions in draw_questions(recipe.seed, prompts).items():
        found[name] = share_right(base, classifier, questions, config, range(seeds))
        aims = {judge: aim for judge, aim in JUDGES[name].items() if judge in trust}
        if any(trust[judge] < aim for judge, aim in aims.items()):
            limited.append(name)
        log.info(
            "card %s = %.3f%s, judge: %s",
            name,
            found[name],
            ", limited by its judge" if name in limited else "",
            {judge: round(trust[judge], 3) for judge in aims},
        )
    dry = recipe.name == "dry-run"
    timing = time_one_image(base, steps=2, threads=1, runs=1) if dry else time_one_image(base)
    found["one image, s"] = timing.seconds
    log.info("card one image = %.2f s, %s", timing.seconds, timing.conditions)
    evaluator = CLIPModel.from_pretrained(recipe.cache / "evaluator").float().to(recipe.device)
    for name, value in figures(evaluator.eval(), recipe, art_file).items():
        found[f"evaluator: {name}"] = value
    stated = {**found, "one image, on": timing.conditions, "limited by their judge": limited}
    (recipe.cache / "figures.json").write_text(json.dumps(stated, indent=1))
    (recipe.cache / "card.md").write_text(table_of(found, limited, timing.conditions))
    shown = PROMPTS[:2] if recipe.name == "dry-run" else PROMPTS
    folder = recipe.cache / "sheets"
    folder.mkdir(exist_ok=True)
    for seed in range(seeds):
        pictures = sample_prompts(base, shown, config, seed=seed)
        save_grid(as_array(pictures), folder / f"seed-{seed}.webp")

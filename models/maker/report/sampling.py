"""Stage sampling: the share of right pictures by sampler, number of steps and guidance."""

from __future__ import annotations

import json
import logging

from models.maker.recipe import Recipe
from models.maker.report.questions import draw_questions, load_base, load_classifier, share_right
from perfusion_core.config import GenerateConfig, SchedulerName

log = logging.getLogger("maker")
SCHEDULERS: tuple[SchedulerName, ...] = ("ddim", "dpmpp_2m", "euler", "unipc")
STEPS = (5, 10, 15, 25)
GUIDANCE = (1.0, 2.0, 3.0, 5.0, 7.5)
SEEDS = (90,)  # the card's figures use other seeds


def measure_sampling(recipe: Recipe, *, prompts: int = 8) -> None:
    """Measure every sampler at every number of steps, then every guidance; save sampling.json."""
    base = load_base(recipe)
    classifier = load_classifier(recipe)
    dry = recipe.name == "dry-run"
    kinds = draw_questions(recipe.seed + 1, 1 if dry else prompts)
    questions = [question for kind in kinds.values() for question in kind]
    configs = [
        GenerateConfig(scheduler=scheduler, num_inference_steps=steps, guidance_scale=5.0)
        for scheduler in SCHEDULERS
        for steps in (STEPS[:1] if dry else STEPS)
    ]
    configs += [
        GenerateConfig(scheduler="ddim", num_inference_steps=25, guidance_scale=guidance)
        for guidance in (GUIDANCE[:1] if dry else GUIDANCE)
    ]
    found = []
    for config in configs:
        right = share_right(base, classifier, questions, config, SEEDS)
        asked = (config.scheduler, config.num_inference_steps, config.guidance_scale)
        log.info("sampling %s steps=%d guidance=%.1f right=%.3f", *asked, right)
        found.append([*asked, right])
        (recipe.cache / "sampling.json").write_text(json.dumps(found))

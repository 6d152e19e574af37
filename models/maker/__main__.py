"""python -m models.maker STAGE: art, vae, unet, decoder, export, returned, evaluator, classifier,
sampling, card, all.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import torch

from models.maker.recipe import DEFAULT_CACHE, Recipe, recipe_of, rescheduled
from models.maker.scenes.art import make_art

# The evaluator and the classifier come after the base model, because they also train on its images.
STAGES = (
    "art",
    "vae",
    "unet",
    "decoder",
    "export",
    "returned",
    "evaluator",
    "classifier",
    "sampling",
    "card",
)


def main() -> None:
    """Run one stage, or all in order. Finished stages are skipped, an unfinished one resumes."""
    parser = argparse.ArgumentParser(prog="python -m models.maker", description=__doc__)
    parser.add_argument("stage", choices=[*STAGES, "all"])
    parser.add_argument("--recipe", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument(
        "--dry-run", action="store_true", help="run every stage at a tiny size, in a minute"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--processes",
        type=int,
        help="number of processes that train the denoiser, with one thread each",
    )
    parser.add_argument(
        "--samples", type=int, help="number of samples after which the denoiser's training ends"
    )
    parser.add_argument(
        "--decay-from", type=int, help="number of samples after which its learning rate falls"
    )
    parser.add_argument(
        "--warm-start", type=Path, help="folder of an earlier pipeline to start from"
    )
    parser.add_argument(
        "--warm-evaluator", type=Path, help="folder of an earlier evaluator to start from"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    torch.set_num_threads(arguments.threads)
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    name = "dry-run" if arguments.dry_run else arguments.recipe
    cache = arguments.cache / "dry-run" if arguments.dry_run else arguments.cache
    recipe = recipe_of(name, cache, arguments.device, arguments.warm_start)
    recipe = rescheduled(
        recipe,
        processes=arguments.processes,
        samples=arguments.samples,
        decay_from=arguments.decay_from,
    )
    recipe = replace(recipe, warm_evaluator=arguments.warm_evaluator)
    recipe.cache.mkdir(parents=True, exist_ok=True)
    art_file = make_art(arguments.cache)
    for stage in STAGES if arguments.stage == "all" else (arguments.stage,):
        run_stage(stage, recipe, art_file)


def run_stage(stage: str, recipe: Recipe, art_file: Path) -> None:
    """Run one stage. Each stage imports its modules only when it runs."""
    torch.manual_seed(recipe.seed)  # for the initial weights
    if stage == "vae":
        from models.maker.stages.vae import train_vae

        train_vae(recipe, art_file)
    elif stage == "decoder":
        from models.maker.stages.vae import train_vae

        train_vae(recipe, art_file, decoder_only=True)
    elif stage == "returned":
        from models.maker.stages.returned import make_returned

        make_returned(recipe, art_file)
    elif stage == "evaluator":
        from models.maker.stages.evaluator import train_evaluator

        train_evaluator(recipe, art_file)
    elif stage == "classifier":
        from models.maker.stages.classifier import train_classifier

        train_classifier(recipe, art_file)
    elif stage == "unet":
        from models.maker.stages.unet import train_unet

        train_unet(recipe, art_file)
    elif stage == "export":
        from models.maker.stages.export import export

        export(recipe, art_file)
    elif stage == "sampling":
        from models.maker.report.sampling import measure_sampling

        measure_sampling(recipe)
    elif stage == "card":
        from models.maker.report.card import make_card

        make_card(recipe, art_file)


if __name__ == "__main__":
    main()

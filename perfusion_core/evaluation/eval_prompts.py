"""Held-out trials: in which scenes and with which seeds a concept is tried, and how often.

All of it is a function of the training's options, never of time: the same training always makes
the same trials, on every machine and however often it was interrupted. What they cost is counted
in rows that pass forward through the U-Net. A training step takes each row of its batch forward
and back, which is three times forward; an image takes two rows for each of its steps. The pass
forward that `background_weight` adds is not counted: no step makes it where all masks are uniform,
which options do not tell, and shares are promised as the most.
Imports no torch.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from perfusion_core.config import BaseModelDefaults, Locking, TrainConfig
from perfusion_core.evaluation.curve import STRENGTHS

INFERENCE_STEPS = 12
"""Denoising steps of a trial's image, with `dpmpp_2m`: fewer would blur what is judged."""

LOCKING: Locking = "local"
"""The curve and what it recommends are for local locking, whatever the base model's default is."""

OPTIONS: dict[str, Any] = {
    "num_images": 1,
    "num_inference_steps": INFERENCE_STEPS,
    "scheduler": "dpmpp_2m",
    "locking": LOCKING,
}
"""How every trial's image is drawn; the rest is the base model's own default."""

# Fewer images would measure their noise: one seed of a small model draws all its cats alike.
_SHARE_OF_CURVE = 0.4
_SHARE_OF_EVALS = 0.4
_ROWS_OF_IMAGE = 2 * INFERENCE_STEPS
_ROWS_OF_TRAINED_PICTURE = 3

# None is among the training's templates, any base model knows them, and what chooses the state to
# keep must not judge it, too: looks and the curve share neither scenes nor seeds.
_EVAL_SCENES = ("on the grass", "in the city", "in the desert", "in the forest")
_FIRST_EVAL_SEED = 501
_CURVE_SCENES = ("on the beach", "at night", "in the snow")
_FIRST_CURVE_SEED = 1001
_FIRST_PLAIN_SEED = 2001
_ROUNDS = 2  # through the scenes

_MOST_EVALS = 8
# Fewer looks could stop nothing early, and a look at fewer images would choose by their noise.
_FEWEST_EVALS = 4
_FEWEST_IMAGES_OF_EVAL = 4


@dataclass(frozen=True)
class EvalPrompt:
    """One image to make: its prompt, with {} in the concept's place, and its seed."""

    prompt: str
    seed: int


def _eval_prompts(scenes: tuple[str, ...], first_seed: int) -> tuple[EvalPrompt, ...]:
    """Every scene once, then again, always with a seed of its own."""
    return tuple(
        EvalPrompt(f"a photo of a {{}} {scene}", first_seed + k)
        for k, scene in enumerate(scenes * _ROUNDS)
    )


IMAGES_AT_ONCE = 4
"""Trials of a batch: half of a proof, so that what a curve has drawn need not be drawn again."""

PROOF = (
    *_eval_prompts(_CURVE_SCENES, _FIRST_CURVE_SEED)[:IMAGES_AT_ONCE],
    *(EvalPrompt("a photo of a {}", _FIRST_PLAIN_SEED + k) for k in range(IMAGES_AT_ONCE)),
)
"""What a concept's verdict is made of, whatever the options of its training: four images in places,
and four plain ones, since a person looks at both."""


@dataclass(frozen=True)
class EvalSchedule:
    """When a training is looked at, and what is tried each time; nothing where it is short."""

    steps: tuple[int, ...]
    eval_prompts: tuple[EvalPrompt, ...]


def eval_schedule(config: TrainConfig) -> EvalSchedule:
    """When and how to look at a training, for two fifths of what the training costs at most.

    At most 8 times, evenly, the last time after the last step. Before the first look the plain
    superclass is tried once in the same way.
    """
    images = _affordable_images(config, steps=config.max_train_steps, share=_SHARE_OF_EVALS)
    every = _eval_prompts(_EVAL_SCENES, _FIRST_EVAL_SEED)
    each = min(len(every), max(_FEWEST_IMAGES_OF_EVAL, images // (_MOST_EVALS + 1)))
    count = min(_MOST_EVALS, images // each - 1, config.max_train_steps)
    if not config.early_stopping or count < _FEWEST_EVALS:
        return EvalSchedule((), ())
    steps = tuple(config.max_train_steps * (k + 1) // count for k in range(count))
    return EvalSchedule(steps, every[:each])


def curve_prompts(config: TrainConfig, *, steps: int) -> tuple[EvalPrompt, ...]:
    """What to try at each strength of the curve after `steps` steps: two fifths of their time.

    One trial at least: a short training is where most can be wrong.
    """
    images = _affordable_images(config, steps=steps, share=_SHARE_OF_CURVE)
    every = _eval_prompts(_CURVE_SCENES, _FIRST_CURVE_SEED)
    return every[: max(1, images // (len(STRENGTHS) + 1))]


def judging_of(defaults: BaseModelDefaults) -> str:
    """The version of the judging: scenes, seeds, steps and strengths, and how images are drawn.

    Figures of two versions do not compare. The training's options are no part of it.
    """
    drawn = defaults.generate_config(OPTIONS)
    told = {
        "proof": [[eval_prompt.prompt, eval_prompt.seed] for eval_prompt in PROOF],
        "curve": [[t.prompt, t.seed] for t in _eval_prompts(_CURVE_SCENES, _FIRST_CURVE_SEED)],
        "strengths": STRENGTHS,
        "drawn": [
            drawn.num_inference_steps, drawn.scheduler, drawn.locking, drawn.guidance_scale,
            drawn.negative_prompt, drawn.width, drawn.height,
        ],
    }  # fmt: skip
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _affordable_images(config: TrainConfig, *, steps: int, share: float) -> int:
    rows = steps * config.train_batch_size * _ROWS_OF_TRAINED_PICTURE
    return int(rows * share) // _ROWS_OF_IMAGE

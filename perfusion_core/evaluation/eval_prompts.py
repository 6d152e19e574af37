"""Eval prompts: the held-out scenes and seeds of an evaluation, and the steps at which it is due.

Eval prompts and schedule depend only on the training's options, never on time, so the same training
always has the same evaluations, on every machine and after any number of interruptions. The unit of
an evaluation's cost is one row that passes forward through the U-Net. A training step passes each
row of its batch forward and back, which costs as much as three forward passes. An image costs two
rows for each of its steps. A training's cost leaves out the forward pass that `background_weight`
adds, because a training with uniform masks does not make this pass, and the options do not say
whether masks are uniform. Leaving out this pass can only make a training look cheaper, so the
evaluation's share of the training's cost is never underestimated. This module does not import
torch.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from perfusion_core.config import BaseModelDefaults, GenerateConfig, Locking, TrainConfig
from perfusion_core.evaluation.curve import STRENGTHS

INFERENCE_STEPS = 12
"""The most denoising steps of an eval prompt's image or a preview. Fewer steps would give blurred
images."""

LOCKING: Locking = "local"
"""The locking of every curve and its recommendation, whatever the base model's default is."""

# The shares of a training's time. With fewer images the figures would mostly be noise: for one
# seed, a small model draws all its cats alike.
_SHARE_OF_CURVE = 0.4
_SHARE_OF_EVALS = 0.4
_ROWS_OF_IMAGE = 2 * INFERENCE_STEPS
_ROWS_OF_TRAINED_PICTURE = 3

# No scene is among the training's templates, and every base model knows all of them. The scores and
# the curve share neither scenes nor seeds, because the prompts that choose the best state must not
# also measure its quality.
_EVAL_SCENES = ("on the grass", "in the city", "in the desert", "in the forest")
_FIRST_EVAL_SEED = 501
_CURVE_SCENES = ("on the beach", "at night", "in the snow")
_FIRST_CURVE_SEED = 1001
_FIRST_PLAIN_SEED = 2001
_ROUNDS = 2  # through the scenes

_MOST_EVALS = 8
# With fewer evaluations a training could not stop early. With fewer images per evaluation, noise
# would choose the best state.
_FEWEST_EVALS = 4
_FEWEST_IMAGES_OF_EVAL = 4


SCENE_PROMPTS = tuple(f"a photo of a {{}} {scene}" for scene in (*_EVAL_SCENES, *_CURVE_SCENES))
"""The prompts of all scenes: the text floor compares images with the scenes that they lack."""


@dataclass(frozen=True)
class EvalPrompt:
    """One image to make: its prompt, with {} in the concept's place, and its seed."""

    prompt: str
    seed: int


def _eval_prompts(scenes: tuple[str, ...], first_seed: int) -> tuple[EvalPrompt, ...]:
    """Return every scene once per round, each time with another seed."""
    return tuple(
        EvalPrompt(f"a photo of a {{}} {scene}", first_seed + k)
        for k, scene in enumerate(scenes * _ROUNDS)
    )


IMAGES_AT_ONCE = 4
"""Eval prompts of a batch. It is half of a proof, so that a proof can use a curve's images
again."""

WHOLE_CURVE = _eval_prompts(_CURVE_SCENES, _FIRST_CURVE_SEED)
"""The eval prompts of a curve that no training pays for, see worker/jobs/judgement.py."""

PROOF = (
    *WHOLE_CURVE[:IMAGES_AT_ONCE],
    *(EvalPrompt("a photo of a {}", _FIRST_PLAIN_SEED + k) for k in range(IMAGES_AT_ONCE)),
)
"""The eval prompts of every concept's verdict, whatever the options of its training: four images in
scenes and four plain images, since people use both."""


@dataclass(frozen=True)
class EvalSchedule:
    """The steps at which a training is scored, and its eval prompts; empty for a short training."""

    steps: tuple[int, ...]
    eval_prompts: tuple[EvalPrompt, ...]


def eval_schedule(config: TrainConfig) -> EvalSchedule:
    """Return the eval schedule of a training, which costs at most two fifths of the training.

    A training is evaluated at most 8 times, at equal distances, the last time after the last step.
    The cost of the eval schedule includes one evaluation of the plain superclass before the first
    score.
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
    """Return the eval prompts of each point of a curve; a curve costs two fifths of `steps` steps.

    There is at least one eval prompt, because short trainings fail most often.
    """
    images = _affordable_images(config, steps=steps, share=_SHARE_OF_CURVE)
    return WHOLE_CURVE[: max(1, images // (len(STRENGTHS) + 1))]


def quick_options(defaults: BaseModelDefaults) -> dict[str, Any]:
    """Return the scheduler and steps of images that only show what a training has learned.

    They are the base model's own, but with few steps, which DDIM cannot draw in. DDIM's place takes
    DPM++ 2M. It takes no other scheduler's place, since a distilled model needs its own, and SDXL
    with DPM++ 2M has artefacts (diffusers#5433).
    """
    own = defaults.generate_config()
    return {
        "scheduler": "dpmpp_2m" if own.scheduler in ("auto", "ddim") else own.scheduler,
        "num_inference_steps": min(INFERENCE_STEPS, own.num_inference_steps),
    }


def image_config(defaults: BaseModelDefaults, *, seed: int) -> GenerateConfig:
    """Return the options of an eval prompt's image; most have the base model's defaults."""
    return defaults.generate_config(
        {**quick_options(defaults), "num_images": 1, "locking": LOCKING, "seed": seed}
    )


def judging_of(defaults: BaseModelDefaults, *, text_floor: bool = False) -> str:
    """Return the version of the judging: a hash of scenes, seeds, strengths and image options.

    `text_floor` says whether the judging measures the text floor.

    Measurements with different versions of the judging cannot be compared. The training's options
    do not affect the version of the judging.
    """
    drawn = image_config(defaults, seed=0)
    told = {
        "proof": [[eval_prompt.prompt, eval_prompt.seed] for eval_prompt in PROOF],
        "curve": [[t.prompt, t.seed] for t in WHOLE_CURVE],
        "strengths": STRENGTHS,
        "drawn": [
            drawn.num_inference_steps, drawn.scheduler, drawn.locking, drawn.guidance_scale,
            drawn.negative_prompt, drawn.width, drawn.height,
            *([drawn.guidance_rescale] if drawn.guidance_rescale else []),
        ],
    }  # fmt: skip
    if text_floor:
        told["text_floor"] = SCENE_PROMPTS
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _affordable_images(config: TrainConfig, *, steps: int, share: float) -> int:
    rows = steps * config.train_batch_size * _ROWS_OF_TRAINED_PICTURE
    return int(rows * share) // _ROWS_OF_IMAGE

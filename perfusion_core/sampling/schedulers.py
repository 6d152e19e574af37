"""Schedulers: diffusers' own, each with the base model's noise schedule."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from perfusion_core.config import GenerateConfig, SchedulerName
from perfusion_core.defaults.noise_schedule import defaults_of
from perfusion_core.errors import SchedulerError

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel

_DRAW_NOISE = frozenset({"euler_a", "lcm", "tcd"})
_NOT_OF_SAMPLES = frozenset({"euler", "euler_a", "euler_karras"})
# Without these, a repository whose own scheduler has Karras sigmas would give them to every other.
_PLAIN = {"use_karras_sigmas": False}
_KARRAS = {
    "use_karras_sigmas": True, "use_exponential_sigmas": False, "use_beta_sigmas": False,
    "use_lu_lambdas": False,
}  # fmt: skip
_DPMPP_2M = {"algorithm_type": "dpmsolver++", "solver_order": 2}


def resolve(base: "BaseModel", name: SchedulerName) -> SchedulerName:
    """Return the scheduler that `name` means for this base model; only `auto` means another."""
    if name != "auto":
        return name
    own = defaults_of(base.scheduler_config, unet_config=base.unet.config, family=base.family)
    chosen: SchedulerName = own.overridden_by(base.defaults).generate["scheduler"]
    return chosen


def make_scheduler(base: "BaseModel", name: SchedulerName) -> Any:
    """Return a new diffusers scheduler with the base model's noise schedule and prediction type.

    Raises SchedulerError if the scheduler has no formula for what the base model predicts.
    """
    import diffusers

    name = resolve(base, name)
    made: tuple[Any, Mapping[str, Any]]
    config = base.scheduler_config
    if name in _NOT_OF_SAMPLES and config["prediction_type"] == "sample":
        raise SchedulerError(
            f"The scheduler {name} cannot be used with this base model, which predicts the image "
            "instead of the noise: use ddim, dpmpp_2m or unipc."
        )
    match name:
        case "dpmpp_2m":
            made = diffusers.DPMSolverMultistepScheduler, {**_DPMPP_2M, **_PLAIN}
        case "dpmpp_2m_karras":
            made = diffusers.DPMSolverMultistepScheduler, {**_DPMPP_2M, **_KARRAS}
        case "euler":
            made = diffusers.EulerDiscreteScheduler, _PLAIN
        case "euler_karras":
            made = diffusers.EulerDiscreteScheduler, _KARRAS
        case "euler_a":
            made = diffusers.EulerAncestralDiscreteScheduler, {}
        case "lcm":
            made = diffusers.LCMScheduler, {}
        case "tcd":
            made = diffusers.TCDScheduler, {}
        case "unipc":
            made = diffusers.UniPCMultistepScheduler, {}
        case _:
            made = diffusers.DDIMScheduler, {}
    kind, options = made
    return kind.from_config(config, **options)


def begin(base: "BaseModel", config: GenerateConfig) -> Any:
    """Return a new scheduler with the timesteps of an image.

    Raises SchedulerError if the scheduler cannot divide the schedule into so many steps.
    """
    scheduler = make_scheduler(base, config.scheduler)
    try:
        scheduler.set_timesteps(config.num_inference_steps)
    except ValueError as error:
        raise SchedulerError(
            f"The scheduler {resolve(base, config.scheduler)} cannot take "
            f"{config.num_inference_steps} steps with this base model: lower num_inference_steps."
        ) from error
    return scheduler


def skip_steps(scheduler: Any, *, denoising_strength: float) -> int:
    """Let a new scheduler begin later, as an edit does; return the number of steps left out.

    The arithmetic is that of diffusers' image-to-image pipelines, but at least one step is left.
    """
    total = len(scheduler.timesteps)
    skipped = total - max(1, min(int(total * denoising_strength), total))
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(skipped)
    return skipped


def step_options(
    base: "BaseModel", name: SchedulerName, *, generator: torch.Generator
) -> Mapping[str, Any]:
    """Return the options of each `scheduler.step`: the source of noise, where noise is drawn.

    TCD's share of noise is the scheduler's default, 0.3, which its authors recommend.
    """
    return {"generator": generator} if resolve(base, name) in _DRAW_NOISE else {}


def predicted_original(scheduler: Any, stepped: Any) -> Tensor | None:
    """Return the finished latents as a step predicts them; None if the scheduler does not tell.

    `stepped` is the result of `scheduler.step`. The multistep schedulers here convert every
    prediction to one of the finished latents, and keep it; TCD tells none.
    """
    for name in ("pred_original_sample", "denoised"):
        if (told := getattr(stepped, name, None)) is not None:
            return cast(Tensor, told)
    kept: Sequence[Tensor | None] = getattr(scheduler, "model_outputs", None) or (None,)
    return kept[-1]


def guidance_input(base: "BaseModel", guidance_scale: float) -> Tensor | None:
    """Return the guidance as the input (1, c) of a distilled U-Net; None for other U-Nets."""
    from diffusers.models.embeddings import get_timestep_embedding

    width = base.unet.config.time_cond_proj_dim
    if width is None:
        return None
    w = torch.tensor([1000.0 * (guidance_scale - 1)])
    embedded: Tensor = get_timestep_embedding(w, width, downscale_freq_shift=1)
    return embedded.to(base.device, base.dtype)


def guided(predicted: Tensor, *, scale: float, rescale: float) -> Tensor:
    """Return the guided prediction (1, c, h, w) of the rows [negative, prompt] or [prompt].

    With `rescale` the result's standard deviation moves towards that of the prompt's prediction
    (Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", section 3.4).
    """
    if len(predicted) == 1:
        return predicted
    negative, positive = predicted[:1], predicted[1:]
    result = negative + scale * (positive - negative)
    if rescale:
        result = rescale * (positive.std() / result.std()) * result + (1 - rescale) * result
    return result

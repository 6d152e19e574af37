"""A base model's noise schedule, and the options of sampling that follow from it.

The source is the repository's scheduler configuration, as diffusers' own pipelines treat it.
"""

from collections.abc import Mapping
from typing import Any

from perfusion_core.config import BaseModelDefaults, SchedulerName
from perfusion_core.defaults.families import family_defaults
from perfusion_core.errors import BaseModelError

PREDICTIONS = ("epsilon", "v_prediction", "sample")

# What a configuration of Stable Diffusion says. A configuration that was saved for a scheduler
# without these keys leaves them out, and diffusers' defaults for them are not Stable Diffusion's.
_OF_STABLE_DIFFUSION = {"set_alpha_to_one": False, "steps_offset": 1}

_OWN: Mapping[str, SchedulerName] = {
    "DDIMScheduler": "ddim",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
    "EulerAncestralDiscreteScheduler": "euler_a",
    "EulerDiscreteScheduler": "euler",
    "LCMScheduler": "lcm",
    "TCDScheduler": "tcd",
    "UniPCMultistepScheduler": "unipc",
}
_WITH_KARRAS_SIGMAS: Mapping[SchedulerName, SchedulerName] = {
    "dpmpp_2m": "dpmpp_2m_karras",
    "euler": "euler_karras",
}
_FEW_STEPS = 4  # of a distilled model


def read(pipeline: Any, *, family: str) -> dict[str, Any]:
    """Return the pipeline's scheduler configuration without the traps for other schedulers.

    Raises BaseModelError if no scheduler of this product can follow the schedule.
    """
    config = dict(pipeline.scheduler.config)
    _refuse_unsupported(config, name=type(pipeline.scheduler).__name__)
    # Latents of Stable Diffusion exceed 1, so clipping destroys images. DDIM, LCM and TCD clip by
    # default, also with a configuration of another scheduler, which does not mention clipping.
    config = {**_OF_STABLE_DIFFUSION, **config, "clip_sample": False}
    config["_class_name"] = type(pipeline.scheduler).__name__
    config.setdefault("prediction_type", "epsilon")
    if family != "sdxl":
        config["steps_offset"] = 1  # as StableDiffusionPipeline corrects it
    # diffusers drops the keys of this list when it makes another scheduler.
    fixed = {"clip_sample", *_OF_STABLE_DIFFUSION}
    unset = [key for key in config.pop("_use_default_values", ()) if key not in fixed]
    return {**config, "_use_default_values": unset}


def defaults_of(
    schedule: Mapping[str, Any], *, unet_config: Mapping[str, Any], family: str
) -> BaseModelDefaults:
    """Return the defaults of a base model's family and own scheduler."""
    own = own_options(schedule, unet_config=unet_config, family=family)
    return family_defaults(family).overridden_by(BaseModelDefaults(generate=own))


def corrected(
    schedule: Mapping[str, Any],
    own: BaseModelDefaults,
    *,
    unet_config: Mapping[str, Any],
    family: str,
) -> tuple[dict[str, Any], BaseModelDefaults]:
    """Return schedule and defaults with those of the base model's own file, which come first."""
    unset = [key for key in schedule["_use_default_values"] if key not in own.schedule]
    config = {**schedule, **own.schedule, "_use_default_values": unset}
    implied = defaults_of(config, unet_config=unet_config, family=family)
    return config, implied.overridden_by(own)


def own_options(
    schedule: Mapping[str, Any], *, unet_config: Mapping[str, Any], family: str
) -> dict[str, Any]:
    """Return the options of sampling that a base model's own scheduler implies.

    A distilled model takes few steps and no guidance, as its publishers say. Its scheduler gives it
    away: LCM and TCD serve nothing else, and Euler's steps with trailing timesteps are Turbo's,
    Lightning's and Hyper's. Zero-SNR models take trailing timesteps, too, but predict velocity.
    """
    own = _OWN.get(schedule["_class_name"], "euler" if family == "sdxl" else "ddim")
    if takes_guidance_as_input(unet_config):
        # Its guidance is an input of the U-Net; 8 is the value in its publishers' example.
        return {"scheduler": "lcm", "num_inference_steps": _FEW_STEPS, "guidance_scale": 8.0}
    if own == "lcm":
        return {"scheduler": own, "num_inference_steps": _FEW_STEPS, "guidance_scale": 1.0}
    velocity = schedule["prediction_type"] == "v_prediction"
    trailing = schedule.get("timestep_spacing") == "trailing"
    if own == "tcd" or (own in ("euler", "euler_a") and trailing and not velocity):
        return {"scheduler": own, "num_inference_steps": _FEW_STEPS, "guidance_scale": 0.0}
    if schedule.get("use_karras_sigmas"):
        own = _WITH_KARRAS_SIGMAS.get(own, own)
    options: dict[str, Any] = {"scheduler": own}
    if velocity and schedule.get("rescale_betas_zero_snr"):
        # With a terminal SNR of zero, guidance overexposes images; 0.7 is the value of the paper
        # that introduced both (Lin et al. 2023, section 3.4).
        options["guidance_rescale"] = 0.7
    return options


def takes_guidance_as_input(unet_config: Mapping[str, Any]) -> bool:
    """Return whether the U-Net has an input for the guidance scale, as distilled LCM models do."""
    return unet_config.get("time_cond_proj_dim") is not None


def _refuse_unsupported(config: Mapping[str, Any], *, name: str) -> None:
    prediction = config.get("prediction_type", "epsilon")
    if (
        "beta_schedule" not in config  # EDM and flow matching
        or config.get("use_flow_sigmas")
        or config.get("timestep_type") == "continuous"
        or prediction not in PREDICTIONS
    ):
        raise BaseModelError(
            f"The base model's noise schedule ({name}, prediction type {prediction}) is not "
            "supported: use a model with a discrete schedule that predicts noise or velocity, not "
            "one of EDM or flow matching."
        )

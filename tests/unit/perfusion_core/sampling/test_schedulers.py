"""Schedulers: every image equals the image of diffusers' own pipeline, to one grey level.

The reference is a second copy of the same saved tiny pipeline, with the scheduler that a user of
diffusers makes from the pipeline's configuration, and a generator of the same seed.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from perfusion_core.base_model import BaseModel
from perfusion_core.config import GenerateConfig, SchedulerName
from perfusion_core.errors import ImageDiverged, SchedulerError
from perfusion_core.sampling.sampler import ImageRequest, decode_together, generate, start
from perfusion_core.sampling.schedulers import make_scheduler, resolve
from tests.unit.perfusion_core.conftest import tiny_pipeline
from tests.unit.perfusion_core.sampling.test_sampler import grey_levels_apart

PROMPT, SEED, STEPS = "a photo of a cat", 3, 4

# What a user of diffusers writes for our names.
WRITTEN: dict[SchedulerName, tuple[Any, dict[str, Any]]] = {
    "ddim": (diffusers.DDIMScheduler, {"clip_sample": False}),
    "dpmpp_2m": (diffusers.DPMSolverMultistepScheduler, {}),
    "dpmpp_2m_karras": (diffusers.DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "euler": (diffusers.EulerDiscreteScheduler, {}),
    "euler_a": (diffusers.EulerAncestralDiscreteScheduler, {}),
    "euler_karras": (diffusers.EulerDiscreteScheduler, {"use_karras_sigmas": True}),
    "lcm": (diffusers.LCMScheduler, {"clip_sample": False}),
    "tcd": (diffusers.TCDScheduler, {"clip_sample": False}),
    "unipc": (diffusers.UniPCMultistepScheduler, {}),
}

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
# The keys of the configurations that Stable Diffusion 1.5 and SDXL are published with.
_PUBLISHED = {
    **BETAS, "num_train_timesteps": 1000, "clip_sample": False, "set_alpha_to_one": False,
    "steps_offset": 1, "trained_betas": None,
}  # fmt: skip
PNDM = {**_PUBLISHED, "_class_name": "PNDMScheduler", "skip_prk_steps": True}
EULER = {
    **_PUBLISHED, "_class_name": "EulerDiscreteScheduler", "prediction_type": "epsilon",
    "timestep_spacing": "leading", "interpolation_type": "linear", "use_karras_sigmas": False,
}  # fmt: skip
VELOCITY = {
    **_PUBLISHED, "_class_name": "DDIMScheduler", "prediction_type": "v_prediction",
}  # fmt: skip
ZERO_SNR = {**VELOCITY, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a tiny pipeline of a family, with a scheduler's configuration."""

    @cache
    def folder_of(family: str, schedule: str) -> Path:
        folder = tmp_path_factory.mktemp(family)
        tiny_pipeline(family).save_pretrained(folder)
        config = json.loads(schedule)
        (folder / "scheduler" / "scheduler_config.json").write_text(schedule)
        index = json.loads((folder / "model_index.json").read_text())
        index["scheduler"] = ["diffusers", config["_class_name"]]
        (folder / "model_index.json").write_text(json.dumps(index))
        return folder

    return lambda family, schedule: folder_of(family, json.dumps(schedule))


@dataclass(frozen=True)
class Pair:
    """A base model and diffusers' own pipeline, both loaded from one folder."""

    base: BaseModel
    pipeline: Any
    own_scheduler: Any

    def written(self, name: SchedulerName) -> Any:
        """The scheduler that a user of diffusers makes from the pipeline's configuration."""
        kind, options = WRITTEN[name]
        return kind.from_config(self.own_scheduler.config, **options)

    def assert_equal_images(self, reference: Any, **options: Any) -> None:
        """Assert that our image equals that of diffusers' pipeline with `reference`."""
        config = GenerateConfig(**{"seed": SEED, "num_inference_steps": STEPS, **options})
        self.pipeline.scheduler = reference
        theirs = self.pipeline(
            PROMPT, num_inference_steps=config.num_inference_steps,
            guidance_scale=config.guidance_scale, guidance_rescale=config.guidance_rescale,
            negative_prompt=config.negative_prompt or None,
            generator=torch.Generator().manual_seed(SEED),
            **({"eta": 0.3} if isinstance(reference, diffusers.TCDScheduler) else {}),
        ).images[0]  # fmt: skip
        ours = generate(self.base, PROMPT, config=config)[0]
        assert grey_levels_apart(ours, theirs) <= 1


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Pair]:
    """Save a tiny pipeline of a family with a scheduler's configuration; load it twice."""
    folders: dict[str, Path] = {}

    def folder_of(family: str) -> Path:
        if family not in folders:
            folders[family] = tmp_path_factory.mktemp(family)
            tiny_pipeline(family).save_pretrained(folders[family])
        return folders[family]

    @cache
    def make(family: str, schedule: str) -> Pair:
        folder = folder_of(family)
        (folder / "scheduler" / "scheduler_config.json").write_text(schedule)
        index = json.loads((folder / "model_index.json").read_text())
        index["scheduler"] = ["diffusers", json.loads(schedule)["_class_name"]]
        (folder / "model_index.json").write_text(json.dumps(index))
        ours, theirs = (diffusers.DiffusionPipeline.from_pretrained(folder) for _ in range(2))
        theirs.set_progress_bar_config(disable=True)
        base = BaseModel.from_pipeline(ours, name=family, device="cpu")
        return Pair(base, theirs, theirs.scheduler)

    return lambda family, schedule: make(family, json.dumps(schedule))


MATRIX = pytest.mark.parametrize(
    ("family", "schedule"),
    [("sd1", PNDM), ("sdxl", EULER), ("sd2", VELOCITY), ("sd1", ZERO_SNR)],
    ids=["sd1", "sdxl", "velocity", "zero-snr"],
)


@MATRIX
@pytest.mark.parametrize("name", WRITTEN)
def test_images_equal_those_of_diffusers(
    pair: Callable[..., Pair], family: str, schedule: dict[str, Any], name: SchedulerName
) -> None:
    both = pair(family, schedule)
    both.assert_equal_images(both.written(name), scheduler=name, guidance_scale=4.0)


@pytest.mark.parametrize(
    ("family", "made"),
    [
        ("sd1", diffusers.PNDMScheduler(**BETAS)),
        ("sd1", diffusers.DPMSolverMultistepScheduler(**BETAS)),
        ("sdxl", diffusers.EulerDiscreteScheduler(**BETAS, timestep_spacing="leading")),
        ("sdxl", diffusers.DDIMScheduler(**BETAS, steps_offset=1, set_alpha_to_one=False)),
    ],
    ids=["pndm", "dpmpp", "euler", "ddim-that-clips"],
)
def test_no_configuration_clips_latents(pair: Callable[..., Pair], family: str, made: Any) -> None:
    both = pair(family, json.loads(made.to_json_string()))
    meant = {"clip_sample": False, "set_alpha_to_one": False}
    if family == "sd1":  # diffusers' pipeline corrects it there alone
        meant["steps_offset"] = 1
    config = {key: value for key, value in both.own_scheduler.config.items() if key[0] != "_"}
    reference = diffusers.DDIMScheduler.from_config({**config, **meant})
    both.assert_equal_images(reference, scheduler="ddim", guidance_scale=4.0)


@pytest.mark.parametrize("zeros", [True, False])
@pytest.mark.parametrize("negative_prompt", ["", "a red car"])
def test_sdxl_takes_a_missing_negative_prompt_as_zeros_where_the_pipeline_does(
    pair: Callable[..., Pair], zeros: bool, negative_prompt: str
) -> None:
    both = pair("sdxl", EULER)
    options = {"scheduler": "euler", "guidance_scale": 7.0, "negative_prompt": negative_prompt}
    both.pipeline.register_to_config(force_zeros_for_empty_prompt=zeros)
    both.base.zeros_for_no_prompt = zeros
    try:
        both.assert_equal_images(both.own_scheduler, **options)
    finally:
        both.pipeline.register_to_config(force_zeros_for_empty_prompt=True)
        both.base.zeros_for_no_prompt = True


def test_a_loaded_pipeline_says_whether_a_missing_negative_prompt_is_zeros(
    pair: Callable[..., Pair],
) -> None:
    assert pair("sdxl", EULER).base.zeros_for_no_prompt
    assert not pair("sd1", PNDM).base.zeros_for_no_prompt


def test_guidance_is_rescaled_as_by_diffusers(pair: Callable[..., Pair]) -> None:
    both = pair("sd1", ZERO_SNR)
    options = {"scheduler": "ddim", "guidance_scale": 7.5, "guidance_rescale": 0.7}
    both.assert_equal_images(both.written("ddim"), **options)


def test_a_distilled_u_net_takes_guidance_as_an_input() -> None:
    ours, theirs = (tiny_pipeline("sd1", time_cond_proj_dim=8) for _ in range(2))
    theirs.set_progress_bar_config(disable=True)
    both = Pair(BaseModel.from_pipeline(ours, name="lcm", device="cpu"), theirs, theirs.scheduler)
    assert both.base.defaults.generate == {
        "scheduler": "lcm", "num_inference_steps": 4, "guidance_scale": 8.0,
    }  # fmt: skip
    for guidance_scale in (8.0, 2.0):
        both.assert_equal_images(both.written("lcm"), guidance_scale=guidance_scale)


def test_auto_is_the_own_scheduler_and_an_image_says_which(pair: Callable[..., Pair]) -> None:
    both = pair("sdxl", EULER)
    for config in (GenerateConfig(), both.base.defaults.generate_config({"scheduler": "auto"})):
        assert resolve(both.base, config.scheduler) == "euler"
    both.assert_equal_images(both.own_scheduler, guidance_scale=5.0)


def test_a_named_scheduler_is_free_of_the_repositorys_karras_sigmas(
    pair: Callable[..., Pair],
) -> None:
    base = pair("sdxl", {**EULER, "use_karras_sigmas": True}).base
    for name, karras in (("euler", False), ("dpmpp_2m", False), ("euler_karras", True)):
        assert make_scheduler(base, name).config.use_karras_sigmas is karras  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["euler", "euler_a", "euler_karras"])
def test_a_scheduler_without_a_formula_for_predicted_images_is_refused(
    name: SchedulerName,
) -> None:
    pipeline = tiny_pipeline("sd1", prediction_type="sample")
    base = BaseModel.from_pipeline(pipeline, name="x", device="cpu")
    with pytest.raises(SchedulerError, match="use ddim"):
        generate(base, PROMPT, config=GenerateConfig(scheduler=name))


@pytest.mark.parametrize("name", ["lcm", "tcd"])
def test_more_steps_than_a_distilled_schedule_has_are_refused(
    pair: Callable[..., Pair], name: SchedulerName
) -> None:
    base = pair("sd1", PNDM).base
    with pytest.raises(SchedulerError, match="lower num_inference_steps"):
        generate(base, PROMPT, config=GenerateConfig(scheduler=name, num_inference_steps=51))


def test_an_image_that_is_not_finite_is_an_error_and_never_black(
    pair: Callable[..., Pair],
) -> None:
    base = pair("sd1", PNDM).base
    request = ImageRequest(prompt=PROMPT, config=GenerateConfig(seed=SEED))
    fine, diverged = start(base, request)[0], start(base, request)[0]
    for value in (float("nan"), 1e38):  # the second is finite, but the decoder overflows
        diverged.latents = torch.full_like(diverged.latents, value)
        with pytest.raises(ImageDiverged, match=f"seed {SEED} diverged.*Lower"):
            decode_together(base, [fine, diverged])

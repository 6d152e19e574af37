"""A base model's own scheduler: what it implies, how it is corrected, and which are refused."""

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest

from perfusion_core.base_model import BaseModel
from perfusion_core.config import read_defaults
from perfusion_core.errors import BaseModelError
from perfusion_core.sampling.schedulers import make_scheduler
from tests.unit.perfusion_core.conftest import tiny_pipeline
from tests.unit.perfusion_core.sampling.test_schedulers import BETAS


def own_options(family: str, **config: Any) -> dict[str, Any]:
    pipeline = tiny_pipeline(family)
    kind = getattr(diffusers, config.pop("kind"))
    pipeline.scheduler = kind(**BETAS, **config)
    return dict(BaseModel.from_pipeline(pipeline, name="x", device="cpu").defaults.generate)


@pytest.mark.parametrize(
    ("family", "config", "expected"),
    [
        ("sd1", {"kind": "PNDMScheduler"}, {"scheduler": "ddim"}),
        ("sd1", {"kind": "DDIMScheduler"}, {"scheduler": "ddim"}),
        (
            "sdxl",
            {"kind": "EulerDiscreteScheduler", "timestep_spacing": "leading"},
            {"scheduler": "euler", "guidance_scale": 5.0},
        ),
        (
            "sdxl",
            {"kind": "DPMSolverMultistepScheduler", "use_karras_sigmas": True},
            {"scheduler": "dpmpp_2m_karras", "guidance_scale": 5.0},
        ),
        ("sdxl", {"kind": "PNDMScheduler"}, {"scheduler": "euler", "guidance_scale": 5.0}),
        (
            "sd1",
            {"kind": "LCMScheduler"},
            {"scheduler": "lcm", "num_inference_steps": 4, "guidance_scale": 1.0},
        ),
        (
            "sdxl",
            {"kind": "TCDScheduler"},
            {"scheduler": "tcd", "num_inference_steps": 4, "guidance_scale": 0.0},
        ),
        (
            "sdxl",
            {"kind": "EulerAncestralDiscreteScheduler", "timestep_spacing": "trailing"},
            {"scheduler": "euler_a", "num_inference_steps": 4, "guidance_scale": 0.0},
        ),
        (
            "sd2",
            {"kind": "EulerDiscreteScheduler", "timestep_spacing": "trailing"},
            {"scheduler": "euler", "num_inference_steps": 4, "guidance_scale": 0.0},
        ),
        (
            "sdxl",
            {
                "kind": "EulerDiscreteScheduler", "timestep_spacing": "trailing",
                "prediction_type": "v_prediction", "rescale_betas_zero_snr": True,
            },
            {"scheduler": "euler", "guidance_scale": 5.0, "guidance_rescale": 0.7},
        ),
    ],
    ids=[
        "sd1.5", "ddim", "sdxl", "karras", "sdxl-pndm", "lcm", "tcd", "sdxl-turbo", "sd-turbo",
        "zero-snr",
    ],
)  # fmt: skip
def test_the_own_scheduler_of_a_base_model_gives_its_defaults(
    family: str, config: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert own_options(family, **config) == expected


@pytest.mark.parametrize(
    "scheduler",
    [
        diffusers.EDMEulerScheduler(),
        diffusers.FlowMatchEulerDiscreteScheduler(),
        diffusers.DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True
        ),
        diffusers.EulerDiscreteScheduler(
            timestep_type="continuous", prediction_type="v_prediction"
        ),
    ],
    ids=lambda scheduler: type(scheduler).__name__,
)
def test_a_schedule_of_another_kind_is_refused_by_name(scheduler: Any) -> None:
    pipeline = tiny_pipeline("sd1")
    pipeline.scheduler = scheduler
    with pytest.raises(BaseModelError, match=f"{type(scheduler).__name__}.*is not supported: use"):
        BaseModel.from_pipeline(pipeline, name="x", device="cpu")


def test_a_file_beside_the_model_corrects_its_schedule_and_its_defaults(tmp_path: Path) -> None:
    base = BaseModel.from_pipeline(tiny_pipeline("sd1"), name="x", device="cpu")
    file = tmp_path / "perfusion.json"
    correct = {
        "prediction_type": "v_prediction", "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    }  # fmt: skip
    generate = {"guidance_scale": 6.0, "scheduler": "auto"}
    file.write_text(json.dumps({"schedule": correct, "generate": generate}))
    base.override_defaults(read_defaults(tmp_path))
    assert base.defaults.generate == {
        "scheduler": "ddim", "guidance_scale": 6.0, "guidance_rescale": 0.7,
    }  # fmt: skip
    made = make_scheduler(base, "ddim")
    assert {key: made.config[key] for key in correct} == correct
    assert float(made.alphas_cumprod[-1]) == 0.0
    file.write_text(json.dumps({"schedule": {"prediction_type": "magic"}}))
    with pytest.raises(BaseModelError, match="is not valid"):
        read_defaults(tmp_path)


def test_a_file_beside_a_single_file_of_the_same_name_has_its_defaults(tmp_path: Path) -> None:
    (tmp_path / "turbo.perfusion.json").write_text('{"generate": {"guidance_scale": 0.0}}')
    for name, own in (("turbo", {"guidance_scale": 0.0}), ("other", {})):
        checkpoint = tmp_path / f"{name}.safetensors"
        checkpoint.touch()
        assert read_defaults(checkpoint).generate == own

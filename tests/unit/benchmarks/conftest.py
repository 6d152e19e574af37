"""A base model unlike the shipped one: another size, other latents, another prediction."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline

from perfusion_core import BaseModel
from perfusion_core.base_model import COVARIANCE_FILE
from perfusion_core.covariance.captions import captions
from tests.unit.perfusion_core.conftest import EOS, TOKENIZER, text_encoder, unet

LATENT_CHANNELS = 3
SIDE = 40  # 20 latents of two pixels


@pytest.fixture(scope="session")
def odd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny pipeline that predicts noise, with its covariance and defaults."""
    folder = tmp_path_factory.mktemp("models") / "odd"
    torch.manual_seed(7)
    denoiser = unet(32, in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS)
    denoiser.register_to_config(sample_size=SIDE // 2)
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(4, 8), norm_num_groups=2, layers_per_block=1,
            latent_channels=LATENT_CHANNELS,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        ),
        tokenizer=TOKENIZER,
        text_encoder=text_encoder(32, eos=EOS),
        unet=denoiser,
        scheduler=DDIMScheduler(
            beta_schedule="scaled_linear", prediction_type="epsilon", clip_sample=False,
            set_alpha_to_one=False, steps_offset=1,
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    defaults = {
        "train": {"max_train_steps": 3, "train_batch_size": 2},
        "generate": {"num_inference_steps": 2},
    }
    (folder / "perfusion.json").write_text(json.dumps(defaults))
    base = BaseModel.from_pipeline(pipeline, name=folder.name, device="cpu")
    base.estimate_covariance(captions(300, known=base.knows_word))
    base.covariance.save(folder / COVARIANCE_FILE)
    return folder


@pytest.fixture(scope="session")
def odd(odd_folder: Path) -> BaseModel:
    """The same, loaded."""
    return BaseModel.load(odd_folder, device="cpu")

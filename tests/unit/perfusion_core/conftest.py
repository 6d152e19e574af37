"""Tiny random pipelines made from the real classes, one for each family."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image, ImageDraw
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from perfusion_core.covariance.captions import captions
from perfusion_core.training.trainer import train

SHIPPED = Path(__file__).parents[3] / "models" / "base"
TOKENIZER = CLIPTokenizer.from_pretrained(SHIPPED / "tokenizer")
EOS = TOKENIZER.eos_token_id


@pytest.fixture(scope="session")
def shipped() -> BaseModel:
    """The base model that the project ships, on the CPU."""
    return BaseModel.load(SHIPPED, device="cpu")


def drawing(side: int = 64) -> Image.Image:
    picture = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(picture)
    pen.rectangle((side // 4, side // 4, side * 3 // 4, side * 3 // 4), fill="purple")
    pen.ellipse((side // 3, side // 3, side // 2, side // 2), fill="yellow")
    return picture


def trained_briefly(base: BaseModel) -> Concept:
    """A concept after very few steps: enough to be one."""
    config = base.defaults.train_config({"max_train_steps": 3, "train_batch_size": 2})
    training = train(base, [drawing()], name="rex", superclass="robot", config=config)
    for _ in training:
        pass
    return training.concept()


def text_encoder(width: int, *, eos: int, projected: bool = False) -> Any:
    config = CLIPTextConfig(
        vocab_size=len(TOKENIZER), hidden_size=width, intermediate_size=2 * width,
        num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=32,
        projection_dim=width, bos_token_id=TOKENIZER.bos_token_id, eos_token_id=eos,
        pad_token_id=EOS,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def unet(width: int, **more: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=width, attention_head_dim=2, **more,
    )  # fmt: skip


def tiny_pipeline(
    family: str, *, prediction_type: str = "epsilon", seed: int = 7, **more: Any
) -> Any:
    """A random pipeline of `family`: right classes and wiring, a few thousand weights.

    `more` goes to an SD U-Net.
    """
    torch.manual_seed(seed)
    parts: dict[str, Any] = {
        "vae": AutoencoderKL(
            block_out_channels=(4, 8), norm_num_groups=2, layers_per_block=1,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        ),
        "tokenizer": TOKENIZER,
        "scheduler": DDIMScheduler(
            beta_schedule="scaled_linear", prediction_type=prediction_type, clip_sample=False,
            set_alpha_to_one=False, steps_offset=1,
        ),
    }  # fmt: skip
    if family == "sdxl":
        return StableDiffusionXLPipeline(
            **parts,
            text_encoder=text_encoder(16, eos=EOS),
            text_encoder_2=text_encoder(24, eos=EOS, projected=True),
            tokenizer_2=TOKENIZER,
            unet=unet(
                40,
                addition_embed_type="text_time",
                addition_time_embed_dim=4,
                projection_class_embeddings_input_dim=24 + 6 * 4,
            ),
        )
    width = {"sd1": 32, "sd2": 1024}[family]
    return StableDiffusionPipeline(
        **parts, text_encoder=text_encoder(width, eos=EOS), unet=unet(width, **more),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


@pytest.fixture(scope="session")
def tiny() -> Callable[[str], BaseModel]:
    """A base model around a tiny pipeline of a family, made once for each."""
    made: dict[str, BaseModel] = {}

    def make(family: str) -> BaseModel:
        if family not in made:
            base = BaseModel.from_pipeline(tiny_pipeline(family), name=family, device="cpu")
            base.estimate_covariance(captions(300, known=base.knows_word))
            made[family] = base
        return made[family]

    return make


@pytest.fixture
def base(tiny: Callable[[str], BaseModel]) -> BaseModel:
    """A base model of random weights, for what holds on any: quick, and it draws noise."""
    return tiny("sd1")

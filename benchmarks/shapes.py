"""Random pipelines in the shapes of base models, public and shipped: made here, not downloaded.

Time and memory depend on shapes alone, so these stand for models whose weights are missing here.
Their images are noise.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

Shape = Literal["sd15", "sd21", "sdxl", "shipped", "clip", "tiny"]

_SHIPPED = Path(__file__).parents[1] / "models" / "base"
_TOKENS = 77

UNETS: Mapping[Shape, Mapping[str, Any]] = {
    # Diffusers' default is Stable Diffusion 1.5 but for the width of its encodings.
    "sd15": {"cross_attention_dim": 768, "sample_size": 64},
    "sd21": {
        "cross_attention_dim": 1024, "sample_size": 64, "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
    "sdxl": {
        "cross_attention_dim": 2048, "sample_size": 128, "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True, "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10), "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
    },
    # A small U-Net that reads encodings of CLIP-L's width.
    "clip": {
        "cross_attention_dim": 768, "sample_size": 8, "block_out_channels": (32, 64),
        "layers_per_block": 1, "attention_head_dim": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    },
    "tiny": {
        "cross_attention_dim": 32, "sample_size": 8, "block_out_channels": (32, 64),
        "layers_per_block": 1, "attention_head_dim": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    },
}  # fmt: skip
"""Arguments of each U-Net; that of `shipped` is configured by its own folder."""

# Width, layers, heads of each text encoder.
_TEXT: Mapping[Shape, tuple[tuple[int, int, int], ...]] = {
    "sd15": ((768, 12, 12),),
    "sd21": ((1024, 23, 16),),
    "sdxl": ((768, 12, 12), (1280, 32, 20)),
    "clip": ((768, 12, 12),),
    "tiny": ((32, 2, 2),),
}
_VAE = (128, 256, 512, 512)


def unet(shape: Shape) -> Any:
    """A random U-Net, on torch's present default device."""
    if shape == "shipped":
        return UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(_SHIPPED / "unet"))
    return UNet2DConditionModel(**UNETS[shape])


def pipeline(shape: Shape) -> Any:
    """A random float32 pipeline of the right classes, on torch's present default device."""
    if shape == "shipped":
        return _quiet(_shipped())
    encoders = [_text_encoder(*size, projected=k == 1) for k, size in enumerate(_TEXT[shape])]
    parts: dict[str, Any] = {
        "unet": unet(shape),
        "vae": _vae((8, 16, 16, 16) if shape in ("clip", "tiny") else _VAE),
        "tokenizer": _tokenizer(),
        "text_encoder": encoders[0],
        "scheduler": DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
            set_alpha_to_one=False, steps_offset=1,
        ),
    }  # fmt: skip
    if shape == "sdxl":
        made: Any = StableDiffusionXLPipeline(
            **parts, text_encoder_2=encoders[1], tokenizer_2=_tokenizer()
        )
    else:
        made = StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    return _quiet(made)


def _quiet(made: Any) -> Any:
    made.set_progress_bar_config(disable=True)
    return made


def _shipped() -> Any:
    """The shipped base model's shapes, as its folder tells them, with random weights."""
    return StableDiffusionPipeline(
        unet=unet("shipped"),
        vae=AutoencoderKL.from_config(AutoencoderKL.load_config(_SHIPPED / "vae")),
        tokenizer=CLIPTokenizer.from_pretrained(_SHIPPED / "tokenizer"),
        text_encoder=CLIPTextModel(CLIPTextConfig.from_pretrained(_SHIPPED / "text_encoder")),
        scheduler=DDIMScheduler.from_pretrained(_SHIPPED, subfolder="scheduler"),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def _vae(channels: tuple[int, ...]) -> AutoencoderKL:
    count = len(channels)
    return AutoencoderKL(
        block_out_channels=channels, layers_per_block=2, norm_num_groups=min(32, channels[0]),
        down_block_types=("DownEncoderBlock2D",) * count,
        up_block_types=("UpDecoderBlock2D",) * count,
    )  # fmt: skip


def _tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(_SHIPPED / "tokenizer", model_max_length=_TOKENS)


def _text_encoder(width: int, layers: int, heads: int, *, projected: bool) -> Any:
    tokenizer = _tokenizer()
    config = CLIPTextConfig(
        vocab_size=max(49_408 if width > 32 else 0, len(tokenizer)), hidden_size=width,
        intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=heads,
        max_position_embeddings=_TOKENS, projection_dim=width,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)

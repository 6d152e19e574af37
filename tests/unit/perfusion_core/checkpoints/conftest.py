"""Tiny pipelines with CLIP's vocabulary, saved in every format that people have."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from perfusion_core.text.clip_tokenizer import clip_tokenizer
from tests.unit.perfusion_core.checkpoints.original_format import original_state
from tests.unit.perfusion_core.conftest import tiny_pipeline

FAMILIES = ("sd1", "sd2", "sdxl")


@dataclass(frozen=True)
class Saved:
    """One tiny pipeline in several formats; `configurations` stands for models/families."""

    family: str
    folder: Path
    fp16: Path
    pickles: Path
    safetensors: Path
    ckpt: Path
    configurations: Path


def _encoder(width: int, act: str, *, projected: bool = False) -> Any:
    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=77, projection_dim=width, hidden_act=act,
        bos_token_id=49406, eos_token_id=49407, pad_token_id=1,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def clip_pipeline(family: str) -> Any:
    """A tiny pipeline whose text encoders are of CLIP's vocabulary, in their family's layout.

    Stable Diffusion 2.x is of 32 dimensions here: its 1024 make only large files.
    """
    torch.manual_seed(3)
    kind = "v_prediction" if family == "sd2" else "epsilon"
    pipeline = tiny_pipeline("sd1" if family == "sd2" else family, prediction_type=kind)
    pipeline.tokenizer = clip_tokenizer(pad_token="!" if family == "sd2" else "<|endoftext|>")
    if family == "sdxl":
        pipeline.text_encoder = _encoder(16, "quick_gelu")
        pipeline.text_encoder_2 = _encoder(24, "gelu", projected=True)
        pipeline.tokenizer_2 = clip_tokenizer(pad_token="!")
    else:
        pipeline.text_encoder = _encoder(32, "gelu" if family == "sd2" else "quick_gelu")
    pipeline.scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=kind,
        clip_sample=False, set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    # Random weights draw noise near grey; larger ones make differences seen.
    with torch.no_grad():
        pipeline.unet.conv_out.weight *= 5
        pipeline.vae.decoder.conv_out.weight *= 5
    return pipeline


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Saved]:
    """Save a family's pipeline in every format, once."""
    root = tmp_path_factory.mktemp("formats")
    made: dict[str, Saved] = {}

    def save(family: str) -> Saved:
        if family in made:
            return made[family]
        pipeline = clip_pipeline(family)
        files = Saved(
            family=family,
            folder=root / family,
            fp16=root / "fp16" / family,
            pickles=root / "bin" / family,
            safetensors=root / f"{family}.safetensors",
            ckpt=root / f"{family}.ckpt",
            configurations=root,
        )
        pipeline.save_pretrained(files.folder)
        pipeline.save_pretrained(files.pickles, safe_serialization=False)
        for part in ("text_encoder", "text_encoder_2"):  # transformers writes safetensors only
            for weights in (files.pickles / part).glob("*.safetensors"):
                module = getattr(pipeline, part)
                torch.save(module.state_dict(), weights.with_name("pytorch_model.bin"))
                weights.unlink()
        state = original_state(pipeline)
        if family == "sd2":
            state["v_pred"] = torch.tensor([])
        save_file(state, files.safetensors)
        torch.save({"state_dict": state, "global_step": 7}, files.ckpt)
        pipeline.to(torch.float16).save_pretrained(files.fp16, variant="fp16")
        made[family] = files
        return files

    return save

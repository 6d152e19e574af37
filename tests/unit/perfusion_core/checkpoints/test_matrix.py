"""Every format of every family draws what diffusers' own pipeline of the same weights draws.

docs/checkpoints.md shows these tests as its table.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline

from perfusion_core.attention import cross_attention_layers
from perfusion_core.base_model import BaseModel
from perfusion_core.checkpoints.reading import read_checkpoint
from perfusion_core.checkpoints.single_file import read_single_file
from perfusion_core.config import GenerateConfig
from perfusion_core.fingerprint import fingerprints_of_base_model
from perfusion_core.sampling.sampler import generate
from tests.unit.perfusion_core.checkpoints.conftest import FAMILIES, Saved

PROMPT, NEGATIVE = "A photo of a corgi wearing sunglasses!", "blurry"
pytestmark = pytest.mark.slow

FORMATS = ("folder", "fp16", "pickles", "safetensors", "ckpt")


def theirs(pipeline: Any) -> np.ndarray[Any, Any]:
    """The image that diffusers draws."""
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(
        PROMPT, negative_prompt=NEGATIVE, num_inference_steps=2, guidance_scale=3.0, height=32,
        width=32, generator=torch.Generator().manual_seed(4),
    ).images[0]  # fmt: skip
    return np.asarray(image, dtype=int)


def ours(base: BaseModel) -> np.ndarray[Any, Any]:
    """The image that Perfusion draws."""
    config = GenerateConfig(
        num_inference_steps=2, guidance_scale=3.0, seed=4, width=32, height=32,
        negative_prompt=NEGATIVE, scheduler="ddim",
    )  # fmt: skip
    return np.asarray(generate(base, PROMPT, config=config)[0], dtype=int)


def read(files: Saved, kind: str) -> Any:
    """Read one of the formats as BaseModel.load does."""
    path: Path = getattr(files, kind)
    if path.is_dir():
        return read_checkpoint(path, name="m")
    return read_single_file(path, name="m", configurations=files.configurations)


@cache
def reference(files: Saved, variant: str | None = None) -> tuple[Any, Any]:
    """Diffusers' own pipeline of the saved folder, and the image that it draws."""
    pipeline = DiffusionPipeline.from_pretrained(
        files.fp16 if variant else files.folder, variant=variant, dtype=torch.float32
    )
    return pipeline, theirs(pipeline)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_format_draws_what_diffusers_draws_and_is_the_same_model(
    family: str, kind: str, saved: Callable[[str], Saved]
) -> None:
    """The same model: a concept that is trained on a folder serves with the single file."""
    files = saved(family)
    _, expected = reference(files, "fp16" if kind == "fp16" else None)
    base = BaseModel.from_pipeline(read(files, kind), name="m", device="cpu")
    assert np.abs(expected - ours(base)).max() <= 1
    assert expected.std() > 10  # there is something to see
    own, _ = reference(files)
    encoders = [own.components[part] for part in ("text_encoder", "text_encoder_2")
                if part in own.components]  # fmt: skip
    layers = cross_attention_layers(own.unet)
    assert base.fingerprint == fingerprints_of_base_model(encoders, layers)[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_single_files_of_these_tests_are_what_diffusers_reads(
    family: str, saved: Callable[[str], Saved]
) -> None:
    files = saved(family)
    own, _ = reference(files)
    kind = StableDiffusionXLPipeline if family == "sdxl" else StableDiffusionPipeline
    tokenizers = {part: own.components[part] for part in own.components if "tokenizer" in part}
    single = kind.from_single_file(
        str(files.safetensors), config=str(files.folder), local_files_only=True,
        dtype=torch.float32, **tokenizers,
    )  # fmt: skip
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if part in own.components:
            state, known = (it.components[part].state_dict() for it in (single, own))
            assert state.keys() == known.keys()
            assert all(torch.equal(state[name], known[name]) for name in known)

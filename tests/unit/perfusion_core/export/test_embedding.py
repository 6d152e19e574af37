"""The word's embedding as a file: unmodified diffusers loads it and encodes as the product does."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from perfusion_core.base_model import BaseModel
from perfusion_core.conditioning import ConceptUse, encode, target_of, tokens_of
from perfusion_core.export.embedding import export_embedding
from perfusion_core.text.prompt import parse
from tests.unit.perfusion_core.conftest import tiny_pipeline
from tests.unit.perfusion_core.export.test_lora import random_concept

PROMPT = "a photo of a <rex> on the beach"


def loaded(pipeline: Any, file: Path, *, family: str) -> None:
    """Load a file as the card says."""
    if family != "sdxl":
        pipeline.load_textual_inversion(file)
        return
    words = load_file(file)
    for key, encoder, tokenizer in (
        ("clip_l", pipeline.text_encoder, pipeline.tokenizer),
        ("clip_g", pipeline.text_encoder_2, pipeline.tokenizer_2),
    ):
        pipeline.load_textual_inversion(
            words[key], token="<rex>", text_encoder=encoder, tokenizer=tokenizer
        )


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_diffusers_encodes_the_placeholder_as_the_product_does(
    tiny: Callable[[str], BaseModel], tmp_path: Path, family: str
) -> None:
    base, pipeline = tiny(family), tiny_pipeline(family)
    concept = random_concept(base)
    file = tmp_path / "rex.embedding.safetensors"
    file.write_bytes(export_embedding(concept))
    # Loading adds a word to a tokenizer, and all tiny pipelines share theirs.
    pipeline.tokenizer = deepcopy(pipeline.tokenizer)
    if family == "sdxl":
        pipeline.tokenizer_2 = deepcopy(pipeline.tokenizer)
    loaded(pipeline, file, family=family)
    with torch.no_grad():
        found = pipeline.encode_prompt(
            PROMPT, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        targets = {"rex": target_of(base, ConceptUse(concept))}
        wanted = encode(base, tokens_of(base, [parse(PROMPT)], targets), targets)
    assert np.allclose(found[0].numpy(), wanted.e.numpy(), atol=1e-5)
    if wanted.pooled is not None:
        assert np.allclose(found[2].numpy(), wanted.pooled.numpy(), atol=1e-5)


def test_the_file_of_one_text_encoder_names_its_word(base: BaseModel, tmp_path: Path) -> None:
    """A1111 and ComfyUI take the only tensor, whatever its name; diffusers takes the name."""
    file = tmp_path / "x.safetensors"
    file.write_bytes(export_embedding(random_concept(base), dtype="float16"))
    tensors = load_file(file)
    assert list(tensors) == ["<rex>"]
    assert tensors["<rex>"].dtype == torch.float16 and tensors["<rex>"].ndim == 1

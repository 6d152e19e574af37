"""A new concept's gate is open before its first step, whatever tokens its superclass has."""

from itertools import islice

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from benchmarks.first_gates import first_gate, superclasses
from perfusion_core import BaseModel
from perfusion_core.text.clip_tokenizer import clip_tokenizer
from perfusion_core.text.tokenization import superclass_ids
from tests.unit.perfusion_core.conftest import tiny_pipeline, unet

OPEN = 0.75
"""The bound of a narrow encoder, whose 64 dimensions cannot keep positions and words apart as well
as the 768 of the command, which has 0.8."""


@pytest.fixture(scope="module")
def base() -> BaseModel:
    """CLIP's real vocabulary and positions in two narrow random layers with their own C."""
    pipeline = tiny_pipeline("sd1")
    pipeline.tokenizer, pipeline.unet = clip_tokenizer(), unet(64)
    torch.manual_seed(2)
    pipeline.text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49_408, hidden_size=64, intermediate_size=256, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=77, bos_token_id=49_406,
            eos_token_id=49_407, pad_token_id=49_407,
        )
    )  # fmt: skip
    made = BaseModel.from_pipeline(pipeline, name="small", device="cpu")
    made.estimate_covariance(count=400)
    return made


def test_two_hundred_superclasses_differ() -> None:
    assert len(set(islice(superclasses(), 200))) == 200


def test_a_gate_is_open_from_the_first_step_for_superclasses_of_one_to_six_tokens(
    base: BaseModel,
) -> None:
    found = [first_gate(base, superclass) for superclass in islice(superclasses(), 0, 200, 3)]
    found += [first_gate(base, superclass) for superclass in islice(superclasses(), 1, 200, 9)]
    assert {gate.tokens for gate in found} >= {1, 2, 3}
    assert [gate for gate in found if gate.mean < OPEN] == []


def test_with_i_star_at_the_whole_superclass_gates_of_several_tokens_would_start_lower(
    base: BaseModel,
) -> None:
    for superclass in ("plushie", "stuffed dog", "golden stuffed dog"):
        assert len(superclass_ids(base.tokenizers[0], superclass)) > 1
        own, whole = first_gate(base, superclass), first_gate(base, superclass, whole=True)
        assert own.mean > OPEN and whole.mean < 0.6

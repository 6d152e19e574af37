"""Every family loads, edits, trains and samples by the same code; the model stays as it was."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from perfusion_core.attention import attach, cross_attention_layers, packed_width
from perfusion_core.base_model import BaseModel
from perfusion_core.conditioning import ConceptUse, condition
from perfusion_core.config import GenerateConfig, TrainConfig
from perfusion_core.covariance.captions import captions
from perfusion_core.covariance.estimate import Covariance, estimate
from perfusion_core.devices.options import BackendName, DeviceOptions
from perfusion_core.errors import (
    BaseModelError,
    ConceptFileError,
    CovarianceError,
    FingerprintMismatch,
)
from perfusion_core.sampling.sampler import generate
from perfusion_core.training.trainer import train
from tests.unit.perfusion_core.conftest import EOS, SHIPPED, tiny_pipeline, unet
from tests.unit.perfusion_core.test_conditioning import concept_like

# Estimating a covariance of 1024 x 1024 takes seconds.
FAMILIES = ["sd1", pytest.param("sd2", marks=pytest.mark.slow), "sdxl"]
QUICK = GenerateConfig(num_inference_steps=2, guidance_scale=3.0, seed=1)
PICTURE = Image.linear_gradient("L").resize((32, 32)).convert("RGB")


def sample(pipeline: Any) -> Tensor:
    """What a plain diffusers pipeline draws, as an array."""
    draw = torch.Generator().manual_seed(5)
    images = pipeline(
        "a photo of a cat on the beach", num_inference_steps=2, generator=draw, output_type="pt"
    ).images
    result: Tensor = images
    return result


@pytest.mark.parametrize("family", FAMILIES)
def test_a_concept_is_trained_and_composed_on_every_family(
    family: str, tiny: Callable[[str], BaseModel]
) -> None:
    base = tiny(family)
    assert base.family == family
    training = train(
        base, [PICTURE], name="x", superclass="teddy bear",
        config=TrainConfig(max_train_steps=2, train_batch_size=2),
    )  # fmt: skip
    assert [step.step for step in training] == [1, 2]
    concept = training.concept()
    base.check(concept)
    plain = generate(base, "a teddy bear at night", config=QUICK)[0]
    for locking in ("local", "global"):
        config = GenerateConfig(**{**vars(QUICK), "locking": locking})
        image = generate(
            base, "a <x> at night", concepts={"x": ConceptUse(concept, beta=0.5)}, config=config
        )[0]
        assert image.size == plain.size == (16, 16) and image.tobytes() != plain.tobytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_plain_pipeline_draws_the_same_bits_before_with_and_after(family: str) -> None:
    pipeline = tiny_pipeline(family)
    pipeline.set_progress_bar_config(disable=True)
    processors = dict(pipeline.unet.attn_processors)
    before = sample(pipeline)
    base = BaseModel.from_pipeline(pipeline, name=family, device="cpu")
    assert torch.equal(sample(pipeline), before)
    base.estimate_covariance(captions(200, known=base.knows_word))
    condition(base, "a photo of a cat")
    assert torch.equal(sample(pipeline), before)
    pipeline.unet.set_attn_processor(processors)
    assert torch.equal(sample(pipeline), before)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "openvino"])
def test_the_shipped_model_without_concepts_draws_what_diffusers_draws(
    backend: BackendName,
) -> None:
    from diffusers import StableDiffusionPipeline

    float32 = DeviceOptions(dtype="float32", backend=backend)
    shipped = BaseModel.load(SHIPPED, device="cpu", device_options=float32)
    pipeline = StableDiffusionPipeline.from_pretrained(SHIPPED, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        "a photo of a teddy on the beach", negative_prompt="", num_inference_steps=4,
        guidance_scale=4.0, generator=torch.Generator().manual_seed(9),
        height=shipped.default_resolution, width=shipped.default_resolution,
    ).images[0]  # fmt: skip
    config = GenerateConfig(num_inference_steps=4, guidance_scale=4.0, seed=9)
    ours = generate(shipped, "a photo of a teddy on the beach", config=config)[0]
    difference = torch.tensor(list(theirs.tobytes())) - torch.tensor(list(ours.tobytes()))
    assert int(difference.abs().max()) <= 1


@pytest.mark.long
@pytest.mark.timeout(600)
def test_stable_diffusion_1_5_at_its_full_shape_trains_and_samples() -> None:
    """Random weights, the real sizes: 16 layers, Σ d_l = 12,480, a concept within 100 KB."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(1)
    pipeline = tiny_pipeline("sd1")
    with torch.device("meta"):
        model = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
        encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                num_attention_heads=12, max_position_embeddings=77, eos_token_id=EOS,
            )
        )  # fmt: skip
    pipeline.unet, pipeline.text_encoder = materialised(model), materialised(encoder)
    base = BaseModel.from_pipeline(pipeline, name="sd-1.5-shape", device="cpu")
    assert len(base.layers) == 16 and packed_width(base.layers) == 2 * 12_480
    base.covariance = estimate(
        ["a caption"] * 100, lambda batch: torch.randn(len(batch), 16, 768),
        base_model_fingerprint=base.fingerprint,
    )  # fmt: skip
    config = TrainConfig(max_train_steps=1, train_batch_size=1, resolution=32, flip=False)
    training = train(base, [PICTURE], name="x", superclass="teddy", config=config)
    next(training)
    concept = training.concept()
    assert len(concept.to_bytes()) <= 100_000 and len(concept.to_bytes("float16")) <= 31_200
    config2 = GenerateConfig(num_inference_steps=1, guidance_scale=1.0, width=32, height=32)
    assert generate(base, "<x>", concepts={"x": ConceptUse(concept, 0.7)}, config=config2)


def materialised(module: nn.Module) -> Any:
    """A module made on the meta device, with small random weights."""
    module = module.to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1:
                # One random row for all: fast, and finite is all that this needs.
                parameter.copy_((torch.randn(parameter.shape[1:]) * 0.01).expand_as(parameter))
            else:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
        for buffer in module.buffers():
            buffer.copy_(torch.arange(buffer.numel()).view_as(buffer))
    return module


def test_a_concept_of_another_model_is_refused(
    tiny: Callable[[str], BaseModel], shipped: BaseModel
) -> None:
    base = tiny("sd1")
    config = TrainConfig(max_train_steps=1, train_batch_size=1)
    concept = train(base, [PICTURE], name="x", superclass="dog", config=config).concept()
    with pytest.raises(FingerprintMismatch, match=f"{base.fingerprint}.*{shipped.fingerprint}"):
        generate(shipped, "<x>", concepts={"x": ConceptUse(concept, 0.7)}, config=QUICK)


def test_what_is_no_pipeline_folder_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"no model_index\.json\. Name a folder"):
        BaseModel.load(tmp_path, device="cpu")


def test_an_adapter_in_a_projection_is_refused() -> None:
    model = unet(32)
    attention = next(m for n, m in model.named_modules() if n.endswith("attn2"))
    attention.to_k = nn.Sequential(attention.to_k)
    with pytest.raises(BaseModelError, match="merge or remove adapters"):
        attach(model, cross_attention_layers(model))


def test_the_covariance_is_kept_and_read_again(tmp_path: Path) -> None:
    base = BaseModel.from_pipeline(tiny_pipeline("sd1"), name="t", device="cpu")
    seen: list[int] = []
    made = base.estimate_covariance(captions(150, known=base.knows_word), progress=seen.append)
    assert seen[-1] == 150 and made.condition_number > 1
    made.save(tmp_path / "c.safetensors")
    read = Covariance.load(tmp_path / "c.safetensors")
    assert torch.equal(read.C, made.C) and read.fingerprint == made.fingerprint
    assert torch.allclose(made.C, made.C.T) and made.C.dtype == torch.float64


def test_a_covariance_that_two_write_at_the_same_time_is_whole(tmp_path: Path) -> None:
    base = BaseModel.from_pipeline(tiny_pipeline("sd1"), name="t", device="cpu")
    made = base.estimate_covariance(captions(150, known=base.knows_word))
    with ThreadPoolExecutor(4) as writers:
        list(writers.map(lambda _: made.save(tmp_path / "c.safetensors"), range(40)))
    assert torch.equal(Covariance.load(tmp_path / "c.safetensors").C, made.C)
    assert [file.name for file in tmp_path.iterdir()] == ["c.safetensors"]


def test_a_concept_without_a_direction_is_refused_by_the_base_model(
    tiny: Callable[[str], BaseModel],
) -> None:
    base = tiny("sd1")
    concept = concept_like(base, "teddy", "x", 1)
    with pytest.raises(ConceptFileError, match="no direction"):
        base.check(replace(concept, i_star=np.zeros_like(concept.i_star)))


def test_other_captions_give_the_covariance_another_name(tiny: Callable[[str], BaseModel]) -> None:
    base = BaseModel.from_pipeline(tiny_pipeline("sd1"), name="t", device="cpu")
    one = base.estimate_covariance(["a cat"] * 100).fingerprint
    assert base.estimate_covariance(["a dog"] * 100).fingerprint != one
    assert base.estimate_covariance(["a cat"] * 100).fingerprint == one


def test_too_few_captions_are_refused() -> None:
    base = BaseModel.from_pipeline(tiny_pipeline("sd1"), name="t", device="cpu")
    with pytest.raises(CovarianceError, match="Only 3 captions"):
        base.estimate_covariance(["a", "b", "c"])
    with pytest.raises(BaseModelError, match="no covariance yet"):
        _ = base.covariance

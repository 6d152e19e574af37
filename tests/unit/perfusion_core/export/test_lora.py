"""A concept as a LoRA: unmodified diffusers loads it and computes the edit without its gate."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import init_empty_weights
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.numpy import load

from perfusion_core.attention import cross_attention_layers
from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from perfusion_core.errors import FingerprintMismatch
from perfusion_core.export.lora import export_lora
from perfusion_core.export.metadata import lora_scale
from perfusion_core.rank_one import Metric
from tests.unit.perfusion_core.conftest import SHIPPED, tiny_pipeline

FAMILIES = Path(__file__).parents[4] / "models" / "families"
draw = np.random.default_rng(22)


def vector(size: int) -> np.ndarray:
    return draw.standard_normal(size).astype(np.float32)


def random_concept(base: BaseModel) -> Concept:
    """A concept of random numbers, far from anything that the weights could hide."""
    return Concept(
        name="rex",
        superclass="robot",
        family=base.family,
        base_model_name=base.name,
        base_model_fingerprint=base.fingerprint,
        covariance_fingerprint=base.covariance_fingerprint,
        o_v=vector(base.packed_width // 2),
        i_star=vector(base.encoding_width),
        e_super=vector(base.encoding_width),
        embeddings=tuple(vector(table.shape[1]) for table in base.text.tables),
        mask_source="uniform",
    )


def edited(base: BaseModel, concept: Concept, e: np.ndarray, scale: float) -> dict[str, Any]:
    """Equation (2) with scale · sim(e) in the gate's place, in float64 and by C itself."""
    C, i = base.covariance.C.double().cpu().numpy(), concept.i_star.astype(np.float64)
    dual = np.linalg.solve(C, i)
    sim = (e @ dual / (i @ dual))[..., None]  # (N, 1)
    found, offset = {}, 0
    for layer in base.layers:
        W_K, W_V = (W.double().numpy() for W in (layer.W_K, layer.W_V))
        o_v = concept.o_v[offset : offset + len(W_V)].astype(np.float64)
        offset += len(W_V)
        assert concept.e_super is not None
        found[f"{layer.name}.to_k"] = e @ W_K.T + scale * sim * (W_K @ (concept.e_super - i))
        found[f"{layer.name}.to_v"] = e @ W_V.T + scale * sim * (o_v - W_V @ i)
    return found


@pytest.fixture(scope="module")
def pipelines(
    tiny: Callable[[str], BaseModel], shipped: BaseModel
) -> dict[str, tuple[BaseModel, Any]]:
    """A base model of each family, and an untouched pipeline of the same weights."""
    of_tiny = {family: (tiny(family), tiny_pipeline(family)) for family in ("sd1", "sd2", "sdxl")}
    return of_tiny | {"shipped": (shipped, StableDiffusionPipeline.from_pretrained(SHIPPED))}


@pytest.mark.parametrize("scale", [0.5, 0.88, 1.0])
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "shipped"])
def test_diffusers_computes_equation_2_with_the_similarity_in_the_gates_place(
    pipelines: dict[str, tuple[BaseModel, Any]], tmp_path: Path, family: str, scale: float
) -> None:
    base, pipeline = pipelines[family]
    concept = random_concept(base)
    file = tmp_path / "rex.lora.safetensors"
    file.write_bytes(export_lora(base, concept))
    e = draw.standard_normal((5, base.encoding_width))
    e[0] = concept.i_star
    wanted = edited(base, concept, e, scale)
    pipeline.load_lora_weights(file, adapter_name="rex")
    try:
        pipeline.set_adapters("rex", scale)
        with torch.no_grad():
            found = {
                name: pipeline.unet.get_submodule(name)(torch.tensor(e, dtype=torch.float32))
                for name in wanted
            }
    finally:
        pipeline.unload_lora_weights()
    assert len(wanted) == 2 * len(base.layers)
    for name, values in wanted.items():
        # A float32 sum of d products is as exact as the largest of its parts.
        assert np.abs(found[name].numpy() - values).max() <= 1e-5 * max(1, np.abs(values).max())


def of_shapes(family: str) -> SimpleNamespace:
    """The layers of a real U-Net, with random projections, and a random covariance."""
    with init_empty_weights():
        config = UNet2DConditionModel.load_config(FAMILIES / family / "unet")
        unet = UNet2DConditionModel.from_config(config)
    shapes = cross_attention_layers(unet)
    noise = torch.Generator().manual_seed(3)
    d = shapes[0].W_K.shape[1]
    layers = [
        replace(
            layer,
            W_K=torch.randn(layer.W_K.shape, generator=noise),
            W_V=torch.randn(layer.W_V.shape, generator=noise),
        )
        for layer in shapes
    ]
    factor = torch.randn(d, d, generator=noise)
    metric = Metric.of(factor @ factor.T + torch.eye(d))
    return SimpleNamespace(
        layers=layers,
        covariance=SimpleNamespace(metric=metric),
        device=torch.device("cpu"),
        check=lambda concept: None,
    )


def test_in_float16_the_lora_of_stable_diffusion_1_takes_at_most_120_000_bytes() -> None:
    base: Any = of_shapes("sd1")
    concept = Concept(
        name="the-old-teddy-bear-of-my-sister",
        superclass="teddy bear",
        family="sd1",
        base_model_name="stable-diffusion-v1-5/stable-diffusion-v1-5@451f4fe16113bff5a5d2269ed5ad",
        base_model_fingerprint="0123456789abcdef" * 2,
        covariance_fingerprint="fedcba9876543210" * 2,
        o_v=vector(12_480),
        i_star=vector(768),
        e_super=vector(768),
        embeddings=(vector(768),),
        mask_source="segmenter",
    )
    data = export_lora(base, concept, dtype="float16")
    assert all(tensor.dtype == np.float16 for tensor in load(data).values())
    assert len(load(data)) == 3 * 2 * 16
    assert 99_000 < len(data) <= 120_000


def test_the_same_concept_gives_the_same_bytes_and_another_base_model_is_refused(
    tiny: Callable[[str], BaseModel],
) -> None:
    base = tiny("sd1")
    concept = random_concept(base)
    assert export_lora(base, concept) == export_lora(base, concept)
    with pytest.raises(FingerprintMismatch):
        export_lora(base, replace(concept, base_model_fingerprint="0" * 32))


def test_the_scale_is_the_strength_of_the_default_bias_unless_a_curve_recommends_one(
    base: BaseModel,
) -> None:
    assert lora_scale(random_concept(base)) == pytest.approx(0.8808, abs=1e-4)

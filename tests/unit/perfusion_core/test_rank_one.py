"""Equations (1) to (3) against independent numbers, and the laws they imply.

They are computed by what generation computes them by: `keys_and_values` of a base model, here with
float64 weights, by the strategy `PUBLISHED`.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from perfusion_core.base_model import BaseModel
from perfusion_core.conditioning import Target, keys_and_values
from perfusion_core.covariance.estimate import Covariance
from perfusion_core.edit_strategy import PUBLISHED
from perfusion_core.errors import ConceptsIndistinguishable, CovarianceError
from perfusion_core.rank_one import (
    BLENDING_COSINE,
    Metric,
    blending_pairs,
    cosines,
    decompose,
)
from tests.unit.perfusion_core.conftest import EOS, text_encoder, tiny_pipeline

ORACLE = load_file(Path(__file__).parents[2] / "data" / "gated_rank1_oracle.safetensors")
d, d_l = 24, 16


def problem(seed: int, J: int = 2) -> dict[str, Tensor]:
    """A random, well-conditioned instance in float64."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    A = normal(d, 4 * d)
    return {
        "e": normal(3, 7, d),
        "W": normal(d_l, d),
        "i": normal(J, d),
        "o": normal(J, d_l),
        "C": A @ A.T / (4 * d) + 0.05 * torch.eye(d, dtype=torch.float64),
        "beta": torch.rand(J, generator=draw, dtype=torch.float64),
        "tau": 0.1 + 0.2 * torch.rand(J, generator=draw, dtype=torch.float64),
    }


@cache
def float64_base(d: int, d_l: int) -> BaseModel:
    """A tiny base model whose cross-attention projects from d to d_l in every layer."""
    pipeline = tiny_pipeline("sd1")
    pipeline.text_encoder = text_encoder(d, eos=EOS)
    pipeline.unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(d_l,), layers_per_block=1, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",),
        cross_attention_dim=d, attention_head_dim=2,
    )  # fmt: skip
    return BaseModel.from_pipeline(pipeline, name="x", device="cpu", dtype=torch.float64)


def edits(p: dict[str, Tensor]) -> list[Tensor]:
    """The Keys and Values of every layer, all of which have one projection W and one output o."""
    W, C = p["W"], p["C"]
    base = float64_base(W.shape[1], W.shape[0])
    for layer in base.layers:
        layer.W_K.copy_(W)
        layer.W_V.copy_(W)
    base.covariance = Covariance(C, "x", caption_count=1, condition_number=1, metric=Metric.of(C))
    targets = [
        Target(
            superclass="x",
            embeddings=(),
            i_star=i,
            e_super=torch.linalg.pinv(W) @ o,  # o*_K = W e_super is o, too
            o_v=o.repeat(len(base.layers)),
            beta=float(beta),
            tau=float(tau),
        )
        for i, o, beta, tau in zip(p["i"], p["o"], p["beta"], p["tau"], strict=True)
    ]
    packed = keys_and_values(base, p["e"], targets, strategy=PUBLISHED)
    return list(packed.split(len(W), dim=-1))


def edit(p: dict[str, Tensor]) -> Tensor:
    """The Values of the first layer."""
    return edits(p)[1]


@pytest.mark.parametrize("case", range(6))
def test_the_edit_agrees_with_an_independent_implementation(case: int) -> None:
    p = {name: ORACLE[f"{case}.{name}"] for name in ("e", "i", "o", "beta", "tau")}
    found = edits(p | {"C": ORACLE["C"], "W": ORACLE["W"]})
    assert len(found) == 2 * len(float64_base(48, 36).layers) >= 6
    for h in found:
        assert h.dtype == torch.float64
        assert (h - ORACLE[f"{case}.h"]).abs().max() < 1e-9


@given(seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_the_target_input_gives_only_the_gated_output(seed: int) -> None:
    p = problem(seed, J=1)
    p["e"] = p["i"][None]
    gate = torch.sigmoid((1 - p["beta"]) / p["tau"])
    assert torch.allclose(edit(p)[0], gate[:, None] * p["o"], atol=1e-9)


@given(seed=st.integers(0, 10**6), J=st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_an_orthogonal_encoding_passes_through_W_plus_the_closed_gates(seed: int, J: int) -> None:
    p = problem(seed, J=J)
    orthogonal = decompose(
        p["e"], p["i"], metric=Metric.of(p["C"]), beta=p["beta"], tau=p["tau"]
    ).e_perp
    assert (orthogonal @ Metric.of(p["C"]).solve(p["i"]).T).abs().max() < 1e-9
    p["e"] = orthogonal
    closed = torch.sigmoid(-p["beta"] / p["tau"]) @ p["o"]
    assert torch.allclose(edit(p), orthogonal @ p["W"].T + closed, atol=1e-9)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_one_concept_is_equation_two(seed: int) -> None:
    p = problem(seed, J=1)
    i, inverse = p["i"][0], torch.linalg.inv(p["C"])
    sim = (p["e"] @ inverse @ i) / (i @ inverse @ i)
    gate = torch.sigmoid((sim - p["beta"]) / p["tau"])
    expected = (p["e"] - sim[..., None] * i) @ p["W"].T + gate[..., None] * p["o"][0]
    assert torch.allclose(edit(p), expected, atol=1e-9)


@given(seed=st.integers(0, 10**6), order=st.permutations(range(3)))
@settings(max_examples=25, deadline=None)
def test_the_order_of_concepts_changes_nothing(seed: int, order: list[int]) -> None:
    p = problem(seed, J=3)
    shuffled = p | {name: p[name][order] for name in ("i", "o", "beta", "tau")}
    assert torch.allclose(edit(p), edit(shuffled), atol=1e-9)


@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3))
@settings(max_examples=25, deadline=None)
def test_the_scale_of_C_changes_nothing(seed: int, scale: float) -> None:
    p = problem(seed)
    assert torch.allclose(edit(p), edit(p | {"C": scale * p["C"]}), atol=1e-9)


def test_removing_each_projection_alone_would_be_wrong_for_concepts_that_overlap() -> None:
    p = problem(3)
    p["i"][1] = 0.7 * p["i"][0] + 0.3 * p["i"][1]
    metric = Metric.of(p["C"])
    joint = decompose(p["e"], p["i"], metric=metric, beta=p["beta"], tau=p["tau"]).e_perp
    a = metric.solve(p["i"])
    alone = p["e"] - (p["e"] @ a.T / (p["i"] * a).sum(-1)) @ p["i"]
    assert (joint @ a.T).abs().max() < 1e-9 < (alone @ a.T).abs().max()


@given(seed=st.integers(0, 10**6), nearness=st.floats(0, 0.95))
@settings(max_examples=25, deadline=None)
def test_gates_kept_apart_open_at_their_own_concept_alone_however_near_another_is(
    seed: int, nearness: float
) -> None:
    p = problem(seed, J=3)
    p["i"][1] = nearness * p["i"][0] + (1 - nearness) * p["i"][1]
    options = {"metric": Metric.of(p["C"]), "beta": p["beta"], "tau": p["tau"]}
    own = decompose(p["i"], p["i"], apart=True, **options).gate  # (3, 3)
    is_own = torch.eye(3, dtype=torch.float64)
    assert torch.all(own <= torch.sigmoid((is_own - p["beta"]) / p["tau"]) + 1e-9)
    assert torch.allclose(own.diagonal(), torch.sigmoid((1 - p["beta"]) / p["tau"]), atol=1e-9)


@given(seed=st.integers(0, 10**6), J=st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_gates_kept_apart_open_no_further_than_equation_three_and_remove_the_same(
    seed: int, J: int
) -> None:
    p = problem(seed, J=J)
    options = {"metric": Metric.of(p["C"]), "beta": p["beta"], "tau": p["tau"]}
    published = decompose(p["e"], p["i"], **options)
    apart = decompose(p["e"], p["i"], apart=True, **options)
    assert torch.equal(apart.e_perp, published.e_perp)
    assert bool((apart.gate <= published.gate).all())
    assert torch.equal(apart.gate, published.gate) is (J == 1)


def test_without_concepts_the_edit_is_the_plain_projection() -> None:
    p = problem(5, J=0)
    assert torch.equal(edit(p), p["e"] @ p["W"].T)


@pytest.mark.parametrize("difference", [0.0, 1e-12, 1e-5])
def test_two_nearly_equal_concepts_are_a_clear_error(difference: float) -> None:
    p = problem(7)
    p["i"][1] = p["i"][0] * 2 + difference
    with pytest.raises(ConceptsIndistinguishable, match="same direction"):
        edit(p)


def test_three_dependent_concepts_are_a_clear_error() -> None:
    p = problem(8, J=3)
    p["i"][2] = p["i"][0] + p["i"][1]
    with pytest.raises(ConceptsIndistinguishable, match="independent"):
        edit(p)


@pytest.mark.parametrize("which", [0, 1])
def test_a_concept_without_a_direction_among_others_is_a_clear_error(which: int) -> None:
    p = problem(9)
    p["i"][which] = 0.0
    with pytest.raises(ConceptsIndistinguishable, match="no direction"):
        edit(p)


def test_a_singular_covariance_is_a_clear_error() -> None:
    with pytest.raises(CovarianceError, match="more captions"):
        Metric.of(torch.zeros(4, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_cost_no_more_than_the_dtype_itself(dtype: torch.dtype) -> None:
    p = problem(11)
    exact = edit(p | {name: p[name].to(dtype).double() for name in ("W", "o")})
    metric = Metric.of(p["C"].float())
    halved = decompose(
        p["e"].float(), p["i"].float(), metric=metric, beta=p["beta"], tau=p["tau"]
    ).apply(p["W"].to(dtype), p["o"].to(dtype))
    scale = (p["e"].abs() @ p["W"].abs().T).max() + p["o"].abs().max()
    assert (halved.double() - exact).abs().max() < 2 * torch.finfo(dtype).eps * scale


@given(seed=st.integers(0, 10**6), J=st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_the_overlap_of_concepts_is_their_cosine_in_the_metric_of_C(seed: int, J: int) -> None:
    p = problem(seed, J)
    i, inverse = p["i"].numpy(), np.linalg.inv(p["C"].numpy())
    G = i @ inverse @ i.T
    expected = G / np.sqrt(np.outer(np.diag(G), np.diag(G)))
    assert np.abs(cosines(p["i"], Metric.of(p["C"])).numpy() - expected).max() < 1e-9
    assert cosines(p["i"].float(), Metric.of(p["C"])).dtype == torch.float64


def test_pairs_that_may_blend_are_those_above_the_threshold_and_not_opposite_ones() -> None:
    metric = Metric.of(torch.eye(3, dtype=torch.float64))

    def at(cosine: float) -> list[float]:
        return [cosine, (1 - cosine**2) ** 0.5, 0.0]

    i = torch.tensor([at(1.0), at(BLENDING_COSINE - 0.01), at(BLENDING_COSINE + 0.01), at(-0.9)])
    pairs = blending_pairs(i, metric)
    assert [(j, k) for j, k, _ in pairs] == [(0, 2), (1, 2)]
    assert abs(pairs[0][2] - BLENDING_COSINE - 0.01) < 1e-6
    assert blending_pairs(i[:1], metric) == []


def test_at_the_blending_threshold_the_other_gate_opens_to_a_fifth() -> None:
    """The reason that the constant's docstring gives."""
    from perfusion_core.strength import DEFAULT_BETA, DEFAULT_TAU

    beta = DEFAULT_BETA["local"]
    gate = torch.sigmoid(torch.tensor((BLENDING_COSINE - beta) / DEFAULT_TAU))
    assert 0.15 < float(gate) < 0.25

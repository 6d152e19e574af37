"""Each ablation of the paper's comparison changes one thing of the edit, by its strategy alone."""

import pytest
import torch
from torch import Tensor

from benchmarks.paper.methods.ablations import (
    NO_EDIT,
    NO_GATE,
    REMOVED_ONE_BY_ONE,
    TrainedKeys,
    UngatedKeys,
    with_keys,
)
from benchmarks.paper.methods.perfusion import Perfusion
from benchmarks.paper.subjects import TUNED, photograph
from perfusion_core import BaseModel
from perfusion_core.conditioning import ConceptUse, condition
from perfusion_core.edit_strategy import APART, PUBLISHED, EditStrategy
from perfusion_core.rank_one import Decomposition, Metric
from tests.unit.benchmarks.conftest import SIDE


@pytest.fixture(scope="module")
def metric() -> Metric:
    a = torch.randn(8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Metric.of(a @ a.T + torch.eye(8, dtype=torch.float64))


def _encodings() -> Tensor:
    return torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def _concepts(count: int) -> Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def _decomposed(
    strategy: EditStrategy, i: Tensor, metric: Metric, *, beta: float = 0.7
) -> Decomposition:
    gates = torch.full((len(i),), beta, dtype=torch.float64)
    return strategy.decompose(_encodings(), i, metric=metric, beta=gates, tau=gates / 5)


def test_removing_one_by_one_is_the_joint_edit_for_one_concept_alone(metric: Metric) -> None:
    for count, same in ((1, True), (2, False)):
        joint = _decomposed(APART, _concepts(count), metric)
        apart = _decomposed(REMOVED_ONE_BY_ONE, _concepts(count), metric)
        assert torch.allclose(joint.e_perp, apart.e_perp) is same
        assert torch.equal(joint.gate, apart.gate)


def test_without_a_gate_beta_changes_nothing_and_a_concepts_own_encoding_opens_fully(
    metric: Metric,
) -> None:
    i = _concepts(1)
    low, high = (_decomposed(NO_GATE, i, metric, beta=beta).gate for beta in (0.2, 0.9))
    own = NO_GATE.decompose(
        i[None], i, metric=metric, beta=torch.tensor([0.7]), tau=torch.tensor([0.1])
    ).gate
    assert torch.equal(low, high)
    assert torch.allclose(own, torch.ones_like(own))


def test_published_gates_are_those_of_equation_three(metric: Metric) -> None:
    i = _concepts(2)
    apart, published = (_decomposed(strategy, i, metric).gate for strategy in (APART, PUBLISHED))
    assert bool((apart <= published).all()) and not torch.equal(apart, published)


def test_without_an_edit_the_frozen_projections_are_left(metric: Metric) -> None:
    edit = _decomposed(NO_EDIT, _concepts(2), metric)
    assert torch.equal(edit.e_perp, _encodings()) and not edit.gate.any()


def test_an_ablation_leaves_no_trace(odd: BaseModel) -> None:
    subject = TUNED[0]
    photos = photograph(subject, side=SIDE)

    def taught(strategy: EditStrategy) -> bytes:
        method = Perfusion(odd, schedule={2: (0.7,)}, strategy=strategy)
        (learned,) = method.learn(subject, photos, seed=0)
        return learned.concept.to_bytes()

    before = taught(APART)
    assert taught(NO_GATE) != before
    assert taught(APART) == before


def test_keys_are_trained_in_the_ablation_alone_and_are_drawn_with(odd: BaseModel) -> None:
    subject = TUNED[0]
    ours, ablated = (
        next(
            Perfusion(odd, schedule={2: (0.7,)}, trains_keys=trains_keys).learn(
                subject, photograph(subject, side=SIDE), seed=0
            )
        )
        for trains_keys in (False, True)
    )
    assert ablated.stored_bytes == ours.stored_bytes + ours.concept.o_v.nbytes
    use = {"x": ConceptUse(ablated.concept, beta=0.7)}
    locked = condition(odd, "a photo of a <x>", concepts=use).packed
    own = condition(odd, "a photo of a <x>", concepts=use, strategy=ablated.strategy).packed
    keys = _keys_in(odd)
    assert torch.equal(own[:, ~keys], locked[:, ~keys])
    assert not torch.allclose(own[:, keys], locked[:, keys])


def _keys_in(base: BaseModel) -> Tensor:
    """Where Keys are in packed Keys and Values."""
    keys, at = torch.zeros(base.packed_width, dtype=torch.bool), 0
    for layer in base.layers:
        width = len(layer.W_K)
        keys[at : at + width], at = True, at + 2 * width
    return keys


def test_ungated_keys_are_the_superclasss_whatever_the_bias_and_values_are_the_products(
    odd: BaseModel,
) -> None:
    subject = TUNED[0]
    method = Perfusion(odd, schedule={1: (0.7,)})
    (learned,) = method.learn(subject, photograph(subject, side=SIDE), seed=0)
    keys, strategy = _keys_in(odd), UngatedKeys().strategy
    low, high = (
        condition(
            odd, "a <x>", concepts={"x": ConceptUse(learned.concept, beta)}, strategy=strategy
        ).packed
        for beta in (0.9, 0.3)
    )
    product = condition(odd, "a <x>", concepts={"x": ConceptUse(learned.concept, 0.3)}).packed
    assert torch.equal(low[:, keys], high[:, keys])
    assert not torch.allclose(product[:, keys], high[:, keys])
    assert torch.equal(product[:, ~keys], high[:, ~keys])


def test_trained_keys_begin_where_they_are_locked(odd: BaseModel) -> None:
    subject = TUNED[0]
    method = Perfusion(odd, schedule={1: (0.7,)})
    (learned,) = method.learn(subject, photograph(subject, side=SIDE), seed=0)
    use = {"x": ConceptUse(learned.concept, beta=0.7)}
    untrained = with_keys(TrainedKeys(odd, subject.superclass, learning_rate=0.1).learned())
    locked, own = (
        condition(odd, "a <x>", concepts=use, strategy=strategy).packed
        for strategy in (APART, untrained)
    )
    assert torch.allclose(own, locked, atol=1e-6)

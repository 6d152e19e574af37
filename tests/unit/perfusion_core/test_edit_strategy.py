"""Edit strategies: which one an option selects, and that training and sampling follow it."""

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor

from perfusion_core.attention import Layer
from perfusion_core.base_model import BaseModel
from perfusion_core.conditioning import ConceptUse, condition
from perfusion_core.config import Gates, GenerateConfig
from perfusion_core.edit_strategy import APART, PUBLISHED, STRATEGIES, EditStrategy
from perfusion_core.encodings import superclass_encoding
from perfusion_core.sampling.sampler import ImageRequest, start
from tests.unit.perfusion_core.test_conditioning import concept_like
from tests.unit.perfusion_core.training.conftest import begin


def test_every_value_of_the_option_gates_selects_its_strategy() -> None:
    assert set(STRATEGIES) == set(get_args(Gates))
    assert STRATEGIES["apart"] is APART
    assert STRATEGIES["published"] is PUBLISHED
    assert GenerateConfig().gates == "apart"


@pytest.mark.parametrize("gates", get_args(Gates))
def test_sampling_edits_by_the_strategy_that_gates_selects(
    tiny: Callable[[str], BaseModel], gates: Gates
) -> None:
    base = tiny("sd1")
    x, y = (concept_like(base, "teddy", name, seed) for seed, name in enumerate("xy"))
    y = replace(y, i_star=x.i_star + 0.5 * superclass_encoding(base, "car").numpy())
    uses = {"x": ConceptUse(x), "y": ConceptUse(y)}
    config = GenerateConfig(gates=gates, guidance_scale=1, seed=1)
    request = ImageRequest(prompt="a <x> next to a <y>", concepts=uses, config=config)
    (by_option,) = start(base, request)
    for name, strategy in STRATEGIES.items():
        expected = condition(base, request.prompt, concepts=uses, strategy=strategy).packed
        (by_argument,) = start(base, request, strategy=strategy)
        assert torch.equal(by_argument.packed[0], expected)
        assert torch.equal(by_option.packed[0], expected) is (name == gates)


def test_a_training_follows_its_strategy(base: BaseModel) -> None:
    def silent(layer: Layer, e_super: Tensor) -> Tensor:
        return e_super.new_zeros(len(e_super), layer.width)

    def trained(strategy: EditStrategy) -> bytes:
        training = begin(base, strategy=strategy)
        list(training)
        return training.concept().to_bytes()

    usual = trained(APART)
    assert trained(PUBLISHED) == usual  # a single concept has the same gate either way
    assert trained(replace(APART, keys=silent)) != usual

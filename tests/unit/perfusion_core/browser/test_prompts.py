"""Open gates give the Keys and Values of every strength exactly."""

import pytest
import torch

from perfusion_core.base_model import BaseModel
from perfusion_core.browser.prompts import OpenPrompt, open_prompt
from perfusion_core.conditioning import ConceptUse, condition
from perfusion_core.config import GenerateConfig
from perfusion_core.strength import DEFAULT_TAU
from tests.unit.perfusion_core.test_conditioning import concept_like

GUIDED, UNGUIDED = GenerateConfig(guidance_scale=4.0), GenerateConfig(guidance_scale=1.0)


def opened(base: BaseModel, prompt: str, config: GenerateConfig, *superclasses: str) -> OpenPrompt:
    uses = {
        f"x{k}": ConceptUse(concept_like(base, superclass, f"x{k}", seed=k))
        for k, superclass in enumerate(superclasses)
    }
    return open_prompt(base, prompt, uses, config=config)


@pytest.mark.parametrize("betas", [(0.9, 0.3), (0.7, 0.7), (0.3, 0.9)])
def test_any_strengths_of_two_concepts_give_what_sampling_computes(
    shipped: BaseModel, betas: tuple[float, float]
) -> None:
    prompt = "a photo of <x0> next to <x1>"
    found = opened(shipped, prompt, GUIDED, "cat", "dog")
    uses = {
        name: ConceptUse(use.concept, beta)
        for (name, use), beta in zip(found.uses.items(), betas, strict=True)
    }
    told = found.packed(torch.tensor(betas), torch.full((2,), DEFAULT_TAU))
    for row, text in enumerate(("", prompt)):
        expected = condition(shipped, text, concepts=uses).packed
        torch.testing.assert_close(told[row], expected, atol=1e-4, rtol=1e-4)


def test_without_guidance_there_is_no_negative_prompt(base: BaseModel) -> None:
    found = opened(base, "<x0> at night", UNGUIDED, "robot")
    assert found.closed.shape == (1, 32, base.packed_width)
    assert found.outputs.shape == (1, base.packed_width)
    assert found.similarities.shape == (1, 32, 1)

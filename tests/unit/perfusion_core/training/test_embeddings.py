"""The placeholder's embedding: where it starts, and how far and how fast it may move."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from perfusion_core.base_model import BaseModel
from perfusion_core.config import TrainConfig
from perfusion_core.text.templates import TEMPLATES
from perfusion_core.text.tokenization import superclass_ids
from perfusion_core.text.training_prompts import TrainingPrompts
from perfusion_core.training.embeddings import (
    REFERENCE_DEVIATION,
    embedding_rates,
    start_embeddings,
)
from perfusion_core.training.trainer import train
from tests.unit.perfusion_core.training.conftest import SHORT, begin, picture

FAST = replace(SHORT, max_train_steps=12, embedding_learning_rate=0.1)


def norms(base: BaseModel, config: TrainConfig) -> list[float]:
    """The embedding's length at the start and after each step."""
    training = begin(base, config)
    found = [float(training.embeddings[0].detach().norm())]
    for _ in training:
        found.append(float(training.embeddings[0].detach().norm()))
    return found


def test_a_held_embedding_keeps_its_length_at_a_rate_that_otherwise_blows_it_up(
    base: BaseModel,
) -> None:
    free = norms(base, FAST)
    held = norms(base, replace(FAST, hold_embedding_norm=True))
    assert max(free) > 2 * free[0]
    assert held == pytest.approx([free[0]] * len(held), rel=1e-5)


def test_a_held_embedding_still_learns(base: BaseModel) -> None:
    training = begin(base, replace(FAST, hold_embedding_norm=True))
    start = training.embeddings[0].detach().clone()
    list(training)
    assert float(torch.cosine_similarity(training.embeddings[0].detach(), start, dim=0)) < 0.9


def test_an_interruption_does_not_change_a_training_with_every_option(base: BaseModel) -> None:
    config = replace(
        SHORT, hold_embedding_norm=True, scale_embedding_rate=True, min_snr_gamma=5.0,
        fit_embedding=True,
    )  # fmt: skip
    whole = begin(base, config)
    list(whole)
    first = begin(base, config)
    next(first), next(first)
    resumed = begin(base, config, state=first.state())
    list(resumed)
    assert resumed.concept().to_bytes() == whole.concept().to_bytes()


def test_a_scaled_rate_moves_the_embedding_by_the_same_share_on_encoders_of_any_scale() -> None:
    draw = torch.Generator().manual_seed(1)
    shipped = torch.randn((500, 32), generator=draw) * REFERENCE_DEVIATION
    config = TrainConfig(scale_embedding_rate=True)
    as_shipped, as_clip = embedding_rates(config, [shipped, shipped * 0.08])
    assert as_shipped == pytest.approx(config.embedding_learning_rate, rel=0.02)
    assert as_clip == pytest.approx(0.08 * as_shipped)
    assert embedding_rates(TrainConfig(), [shipped, shipped * 0.08]) == [0.006, 0.006]


def test_the_shipped_encoder_is_the_reference_of_scaled_rates(shipped: BaseModel) -> None:
    assert float(shipped.text.tables[0].std()) == pytest.approx(REFERENCE_DEVIATION, rel=0.01)


def distance(base: BaseModel, superclass: str, *, fitted: bool) -> float:
    """The placeholder's first encoding from that of the written superclass, mean square."""
    prompts = TrainingPrompts.of(base.tokenizers, TEMPLATES, superclass=superclass)
    own = start_embeddings(base, prompts, superclass=superclass, fitted=fitted)
    with torch.no_grad():
        wanted = prompts.at_superclass(base.text.encode(prompts.written).e)
        e: Tensor = base.text.encode(prompts.ids, prompts.replacements(own)).e
    return float((prompts.at_concept(e) - wanted).square().mean())


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_fitted_embedding_encodes_nearer_to_the_whole_superclass(
    tiny: Callable[[str], BaseModel], family: str
) -> None:
    base = tiny(family)
    last = distance(base, "black cat", fitted=False)
    assert distance(base, "black cat", fitted=True) < 0.8 * last


def test_a_superclass_of_one_token_starts_at_its_own_embedding_fitted_or_not(
    base: BaseModel,
) -> None:
    ids = superclass_ids(base.tokenizers[0], "cat")
    assert len(ids) == 1
    for fitted in (False, True):
        training = train(
            base, [picture()], name="x", superclass="cat",
            config=replace(SHORT, fit_embedding=fitted),
        )  # fmt: skip
        assert torch.equal(training.embeddings[0].detach(), base.text.tables[0][ids[0]])

"""Training: what learns and what stays."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor

from perfusion_core.base_model import BaseModel
from perfusion_core.config import TrainConfig
from perfusion_core.encodings import superclass_encoding
from perfusion_core.errors import PictureError, TrainingDiverged
from perfusion_core.text.templates import TEMPLATES
from perfusion_core.text.tokenization import superclass_ids
from perfusion_core.training.trainer import train
from tests.unit.perfusion_core.training.conftest import SHORT, begin, picture

T = TypeVar("T")


def test_values_and_embedding_learn_and_everything_else_stays(base: BaseModel) -> None:
    before = {n: p.clone() for n, p in base.unet.named_parameters()}
    table = base.text.tables[0].clone()
    training = begin(base)
    start_o_v = training.o_v.detach().clone()
    start_embedding = training.embeddings[0].detach().clone()
    e_super = training.e_super.clone()
    for step in training:
        assert step.loss > 0 and 0 < step.gate < 1
    assert float((training.o_v.detach() - start_o_v).abs().min()) > 0  # every layer, every number
    assert float((training.embeddings[0].detach() - start_embedding).abs().max()) > 1e-3
    assert torch.equal(training.e_super, e_super)  # the locked Key's input
    assert not training.i_star.requires_grad
    assert all(p.grad is None and torch.equal(p, before[n])
               for n, p in base.unet.named_parameters())  # fmt: skip
    assert torch.equal(base.text.tables[0], table) and base.text.tables[0].grad is None


def test_it_starts_from_the_superclass(base: BaseModel) -> None:
    concept = begin(base).concept()
    e_super = superclass_encoding(base, "teddy")
    o_v = torch.cat([layer.W_V @ e_super for layer in base.layers])
    assert np.allclose(concept.o_v, o_v.numpy()) and np.allclose(concept.i_star, e_super.numpy())
    assert np.array_equal(concept.e_super, e_super.numpy())


def test_the_gate_starts_as_open_for_a_superclass_of_several_tokens_as_for_one(
    tiny: Callable[[str], BaseModel],
) -> None:
    """i* starts at what the placeholder encodes to, not at what the whole superclass does."""
    base, config = tiny("sd1"), replace(SHORT, train_batch_size=32)

    def first_gate(superclass: str) -> float:
        training = train(base, [picture()], name="x", superclass=superclass, config=config)
        assert torch.equal(training.i_star, training.e_super) is (superclass == "cat")
        return next(training).gate

    assert len(superclass_ids(base.tokenizers[0], "black cat")) == 2
    assert first_gate("black cat") == pytest.approx(first_gate("cat"), abs=1e-3)


def test_a_new_concept_holds_the_encoding_of_its_superclass_in_the_training_prompts(
    tiny: Callable[[str], BaseModel],
) -> None:
    base = tiny("sd1")
    tokenizer = base.tokenizers[0]
    rows = [
        tokenizer(t.format("black cat"), padding="max_length", max_length=32).input_ids
        for t in TEMPLATES
    ]
    _, last = superclass_ids(tokenizer, "black cat")
    e = base.text.encode([rows]).e
    mean = torch.stack([row[ids.index(last)] for row, ids in zip(e, rows, strict=True)]).mean(0)
    training = train(base, [picture()], name="x", superclass="black cat", config=SHORT)
    list(training)
    concept = training.concept()
    assert concept.format_version == "2" and concept.e_super is not None
    assert np.allclose(concept.e_super, mean.numpy(), atol=1e-6)


@pytest.mark.parametrize("decay", [0.99, 0.5])
def test_i_star_is_the_moving_average_of_the_concepts_encoding(
    base: BaseModel, decay: float
) -> None:
    training = begin(base, replace(SHORT, train_batch_size=5, ema_decay=decay))
    expected = training.i_star
    for step in range(3):
        batch = training._batches.of(step)
        prompts = batch.prompts
        e = base.text.encode(prompts.ids, prompts.replacements(training.embeddings)).e.detach()
        own = [e[k, prompts.places[k]] for k in batch.prompt.tolist()]
        expected = decay * expected + (1 - decay) * torch.stack(own).mean(0)
        next(training)
        assert torch.allclose(training.i_star, expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(training.i_star, training.e_super, atol=1e-3)


def test_each_picture_is_a_piece_of_work_of_its_own_and_the_concept_is_the_same(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[int] = []  # pictures that each encodes
    encode = base.vae.encode

    def counted(pixels: Tensor) -> Any:
        pieces[-1] += len(pixels)
        return encode(pixels)

    def run(act: Callable[[], T], /) -> T:
        pieces.append(0)
        return act()

    pictures = [picture(), picture("red"), picture("green")]
    whole = train(base, pictures, name="x", superclass="teddy", config=SHORT)
    monkeypatch.setattr(base.vae, "encode", counted)
    pieced = train(base, pictures, name="x", superclass="teddy", config=SHORT, run_on_device=run)
    assert [each for each in pieces if each] == [2, 2, 2]  # each with its mirror image
    for training in (whole, pieced):
        for _ in training:
            pass
    assert whole.concept().to_bytes() == pieced.concept().to_bytes()


def test_the_seed_decides_the_concept(base: BaseModel) -> None:
    def trained(seed: int) -> bytes:
        training = begin(base, replace(SHORT, max_train_steps=2, seed=seed))
        list(training)
        return training.concept().to_bytes()

    assert trained(1) == trained(1) != trained(2)


@pytest.mark.slow  # threads that wait for the cores of other tests
def test_with_several_threads_the_same_training_still_gives_the_same_bytes(
    tiny: Callable[[str], BaseModel],
) -> None:
    # So large a batch has prompts that many pictures share: their gradients must add up in order.
    base, config = tiny("sd1"), TrainConfig(max_train_steps=4, train_batch_size=64)

    def trained() -> bytes:
        training = begin(base, config)
        list(training)
        return training.concept().to_bytes()

    usual = torch.get_num_threads()
    torch.set_num_threads(max(2, usual))
    try:
        first = trained()
        assert all(trained() == first for _ in range(3))
    finally:
        torch.set_num_threads(usual)


def test_divergence_ends_in_a_named_error(base: BaseModel) -> None:
    with pytest.raises(TrainingDiverged, match=r"grew without bound.*learning_rate below"):
        training = begin(base)
        training.o_v.data *= 1e4
        next(training)
    with pytest.raises(TrainingDiverged, match="step 1: its loss"):
        training = begin(base)
        training.o_v.data[0] = float("nan")
        next(training)


def test_without_pictures_there_is_nothing_to_teach(base: BaseModel) -> None:
    with pytest.raises(PictureError, match="at least one picture"):
        train(base, [], name="x", superclass="teddy")


def test_the_record_names_options_and_the_source_of_masks(base: BaseModel) -> None:
    concept = begin(base).concept()
    assert concept.mask_source == "uniform" and concept.training["resolution"] == 16
    assert concept.training.items() >= (asdict(SHORT) | {"resolution": 16, "steps": 0}).items()

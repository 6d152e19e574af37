"""A concept moves to a sibling: another U-Net behind the same text encoders, and nowhere else."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from perfusion_core.conditioning import ConceptUse, condition, encode, target_of, tokens_of
from perfusion_core.covariance.captions import captions
from perfusion_core.errors import ConceptFileError, FingerprintMismatch
from perfusion_core.shared_parts import SharedParts
from perfusion_core.siblings import warning
from perfusion_core.text.prompt import parse
from tests.unit.perfusion_core.conftest import tiny_pipeline, trained_briefly
from tests.unit.perfusion_core.evaluation.test_record import FOUND

PROMPT = "a photo of a <rex> on the beach"
BETA, TAU = 0.7, 0.15


def wrapped(pipeline: Any, name: str = "sibling") -> BaseModel:
    """A base model around a pipeline, with another C than the `tiny` ones have."""
    base = BaseModel.from_pipeline(pipeline, name=name, device="cpu")
    base.estimate_covariance(list(captions(400, known=base.knows_word))[100:])
    return base


def sibling_of(family: str) -> BaseModel:
    """The family's tiny base model with another U-Net."""
    pipeline = tiny_pipeline(family)
    pipeline.unet = tiny_pipeline(family, seed=99).unet
    return wrapped(pipeline)


@pytest.fixture(scope="module")
def sibling() -> BaseModel:
    return sibling_of("sd1")


@pytest.fixture(scope="module")
def concept(tiny: Callable[[str], BaseModel]) -> Concept:
    return replace(trained_briefly(tiny("sd1")), evaluation=FOUND)


def test_siblings_share_the_fingerprint_of_text_encoders_and_nothing_else(
    base: BaseModel, sibling: BaseModel
) -> None:
    assert base.shared_parts == sibling.shared_parts
    assert base.fingerprint != sibling.fingerprint
    assert base.covariance_fingerprint != sibling.covariance_fingerprint


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_an_adapted_concept_gives_the_keys_and_values_computed_by_hand_on_the_sibling(
    tiny: Callable[[str], BaseModel], family: str
) -> None:
    concept, sibling = trained_briefly(tiny(family)), sibling_of(family)
    use = ConceptUse(sibling.adapt(concept), BETA, TAU)
    found = condition(sibling, PROMPT, concepts={"rex": use}).packed.double()
    for computed, by_hand in zip(
        found.split([width for layer in sibling.layers for width in (layer.width,) * 2], dim=-1),
        keys_and_values_by_hand(sibling, concept),
        strict=True,
    ):
        assert torch.allclose(computed, by_hand, atol=1e-4)


@torch.no_grad()
def keys_and_values_by_hand(sibling: BaseModel, concept: Concept) -> list[Tensor]:
    """Equations (1) to (3) in float64: the sibling's W and C, the concept's own vectors."""
    targets = {"rex": target_of(sibling, ConceptUse(sibling.adapt(concept), BETA, TAU))}
    e = encode(sibling, tokens_of(sibling, [parse(PROMPT)], targets), targets).e[0].double()
    i, e_super = torch.tensor(concept.i_star).double(), torch.tensor(concept.e_super).double()
    o_v = torch.tensor(concept.o_v).double()
    towards = torch.linalg.inv(sibling.covariance.C) @ i
    sim = e @ towards / (i @ towards)
    gate = torch.sigmoid((sim - BETA) / TAU)[:, None]
    rest = e - sim[:, None] * i
    both = []
    for layer in sibling.layers:
        W_K, W_V = layer.W_K.double(), layer.W_V.double()
        both += [rest @ W_K.T + gate * (W_K @ e_super), rest @ W_V.T + gate * o_v[layer.own]]
    return both


def test_an_adapted_concept_keeps_what_it_learned_and_drops_what_was_measured_of_images(
    concept: Concept, sibling: BaseModel
) -> None:
    adapted = Concept.from_bytes(sibling.adapt(concept).to_bytes())
    sibling.check(adapted)
    for name in ("o_v", "i_star", "e_super"):
        assert np.array_equal(getattr(adapted, name), getattr(concept, name))
    assert np.array_equal(adapted.embeddings[0], concept.embeddings[0])
    assert adapted.curve is None and adapted.evaluation is not None
    assert not adapted.evaluation.thumbnails
    # The pictures are the same ones, and so is their embedding.
    assert adapted.reference is not None and np.array_equal(adapted.reference, FOUND.reference)
    assert FOUND.curve is not None and adapted.evaluation.ceiling == FOUND.curve.ceiling
    assert adapted.training["adapted_from"] == {
        "name": concept.base_model_name,
        "fingerprint": concept.base_model_fingerprint,
        "covariance_fingerprint": concept.covariance_fingerprint,
    }
    told = warning(adapted.training, is_measured=False)
    assert told is not None and concept.base_model_fingerprint in told
    assert warning(concept.training, is_measured=False) is None


def test_back_on_its_own_base_model_an_adapted_concept_is_as_it_was(
    base: BaseModel, sibling: BaseModel, concept: Concept
) -> None:
    there_and_back = base.adapt(sibling.adapt(concept))
    unjudged = replace(concept, evaluation=FOUND.of_pictures())
    assert there_and_back.to_bytes() == unjudged.to_bytes()
    assert base.adapt(concept).to_bytes() == concept.to_bytes()


def test_a_concept_may_move_to_another_covariance_of_its_base_model(
    tiny: Callable[[str], BaseModel], concept: Concept
) -> None:
    other = wrapped(tiny_pipeline("sd1"), "sd1")
    of_earlier_release = replace(concept, shared_parts=None)
    for moved in (other.adapt(concept), other.adapt(of_earlier_release)):
        other.check(moved)
        assert moved.curve is None
        assert concept.covariance_fingerprint in str(warning(moved.training, is_measured=False))


def test_other_text_encoders_are_refused_and_both_fingerprints_are_named(concept: Concept) -> None:
    pipeline = tiny_pipeline("sd1")
    with torch.no_grad():
        next(pipeline.text_encoder.parameters()).view(-1)[0] += 0.25
    other = wrapped(pipeline)
    with pytest.raises(FingerprintMismatch, match="text encoders differ") as caught:
        other.adapt(concept)
    for fingerprint in (concept.base_model_fingerprint, other.fingerprint):
        assert fingerprint in str(caught.value)


def test_layers_of_other_widths_or_in_another_order_are_refused(
    concept: Concept, sibling: BaseModel
) -> None:
    assert concept.shared_parts is not None
    assert concept.shared_parts.layer_widths == (8, 16, 8, 8)
    for widths in ((16, 8, 8, 8), (8, 16, 16), (8, 16, 8)):
        parts = replace(concept.shared_parts, layer_widths=widths)
        with pytest.raises(FingerprintMismatch, match="other shapes"):
            sibling.adapt(replace(concept, shared_parts=parts))


def test_a_file_of_an_earlier_release_is_refused_with_what_to_do(
    concept: Concept, sibling: BaseModel
) -> None:
    earlier = Concept.from_bytes(replace(concept, shared_parts=None).to_bytes())
    assert earlier.shared_parts is None
    with pytest.raises(FingerprintMismatch, match="where its own base model is served"):
        sibling.adapt(earlier)


def test_its_own_base_model_notes_in_a_file_what_siblings_share(
    base: BaseModel, sibling: BaseModel, concept: Concept
) -> None:
    noted = base.adapt(replace(concept, shared_parts=None))
    assert noted.curve == concept.curve
    sibling.check(sibling.adapt(noted))


@pytest.mark.parametrize("text", ["", "0" * 200])
def test_a_fingerprint_that_is_none_is_a_damaged_file(concept: Concept, text: str) -> None:
    parts = SharedParts(text, (concept.o_v.size,))
    with pytest.raises(ConceptFileError):
        Concept.from_bytes(replace(concept, shared_parts=parts).to_bytes())


@pytest.mark.parametrize("added", [(1,), (1, -1), (0,), (True, -1)])
def test_widths_that_do_not_fit_the_target_outputs_are_a_damaged_file(
    concept: Concept, added: tuple[int, ...]
) -> None:
    parts = SharedParts("0" * 32, (concept.o_v.size, *added))
    with pytest.raises(ConceptFileError):
        Concept.from_bytes(replace(concept, shared_parts=parts).to_bytes())


@pytest.mark.parametrize("value", [None, {}, {"layer_widths": [1]}, [], 3, {"layer_widths": 2}])
def test_a_description_without_shared_parts_has_none(value: Any) -> None:
    assert SharedParts.from_json(value) is None


def test_shared_parts_are_described_as_they_are(base: BaseModel) -> None:
    assert SharedParts.from_json(base.describe()["shared_parts"]) == base.shared_parts

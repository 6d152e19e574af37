"""Keys and Values of prompts with concepts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from perfusion_core.conditioning import (
    ConceptUse,
    Conditioning,
    added_conditions,
    condition,
    encode,
    target_of,
    tokens_of,
)
from perfusion_core.config import GenerateConfig, Locking
from perfusion_core.edit_strategy import PUBLISHED
from perfusion_core.encodings import superclass_encoding
from perfusion_core.errors import ConceptFileError, ConceptsIndistinguishable, PromptError
from perfusion_core.evaluation.curve import recommended_strength
from perfusion_core.rank_one import Metric, decompose
from perfusion_core.sampling.sampler import ImageRequest, start
from perfusion_core.strength import DEFAULT_TAU, beta_from_strength
from perfusion_core.text.prompt import parse
from perfusion_core.text.templates import TEMPLATES
from tests.unit.perfusion_core.conftest import trained_briefly
from tests.unit.perfusion_core.evaluation.test_record import JUDGED


def concept_like(base: BaseModel, superclass: str, name: str = "x", seed: int = 0) -> Concept:
    """A concept whose encoding is its superclass's own, with random Values."""
    word = base.tokenizers[0](superclass, add_special_tokens=False).input_ids[-1]
    return Concept(
        name=name,
        superclass=superclass,
        family=base.family,
        base_model_name=base.name,
        base_model_fingerprint=base.fingerprint,
        covariance_fingerprint=base.covariance_fingerprint,
        o_v=np.random.default_rng(seed).standard_normal(base.packed_width // 2, np.float32),
        i_star=superclass_encoding(base, superclass).numpy(),
        e_super=superclass_encoding(base, superclass).numpy(),
        embeddings=(base.text.tables[0][word].detach().numpy(),),
        mask_source="uniform",
    )


def keys_values(base: BaseModel, conditioning: Conditioning, layer: int) -> tuple[Tensor, Tensor]:
    l = base.layers[layer]  # noqa: E741 - the paper's index of layers
    packed = conditioning.packed
    start = 2 * l.offset
    return packed[:, start : start + l.width], packed[:, start + l.width : start + 2 * l.width]


def test_without_concepts_keys_and_values_are_the_plain_projections(shipped: BaseModel) -> None:
    found = condition(shipped, "a photo of a cat")
    ids = shipped.tokenizers[0]("a photo of a cat", padding="max_length", max_length=32).input_ids
    e = shipped.text.encode([[ids]]).e[0]
    for number, layer in enumerate(shipped.layers):
        K, V = keys_values(shipped, found, number)
        assert torch.equal(K, e @ layer.W_K.T) and torch.equal(V, e @ layer.W_V.T)


def test_the_concepts_embedding_reaches_its_own_position_and_those_behind_it_only(
    shipped: BaseModel,
) -> None:
    x = concept_like(shipped, "teddy")
    other = replace(x, embeddings=(x.embeddings[0] + 1,))
    prompt = "a photo of <x> at night"
    one = condition(shipped, prompt, concepts={"x": ConceptUse(x, 0.7)}).packed
    two = condition(shipped, prompt, concepts={"x": ConceptUse(other, 0.7)}).packed
    changed = (one != two).any(-1).nonzero().flatten().tolist()
    assert changed[0] == 4  # BOS a photo of <x>


def test_with_the_superclasss_embedding_the_encoding_is_the_plain_one(shipped: BaseModel) -> None:
    """A gate held shut by a great bias leaves W e_perp, whatever the Values are."""
    x = concept_like(shipped, "teddy")
    shut = condition(shipped, "a photo of a <x>", concepts={"x": ConceptUse(x, beta=50.0)})
    plain = condition(shipped, "a photo of a teddy")
    K, _ = keys_values(shipped, shut, 0)
    K_plain, _ = keys_values(shipped, plain, 0)
    assert torch.allclose(K[:4], K_plain[:4], atol=0.05)  # before the concept: nearly orthogonal


def test_the_key_at_the_concepts_own_encoding_is_the_superclasss_scaled_by_the_gate(
    shipped: BaseModel,
) -> None:
    x = concept_like(shipped, "teddy")
    for strength in (0.2, 0.5, 0.9):
        use = ConceptUse(x, beta_from_strength(strength))
        # Among many prompts i* is the mean, so sim is not exactly 1 in one of them: ask for the
        # exact encoding by moving i* onto it.
        e = shipped.text.encode(
            [[shipped.tokenizers[0]("a teddy", padding="max_length", max_length=32).input_ids]]
        ).e[0, 2]
        exact = ConceptUse(replace(x, i_star=e.numpy()), use.beta)
        found = condition(shipped, "a <x>", concepts={"x": exact})
        for number, layer in enumerate(shipped.layers):
            K, V = keys_values(shipped, found, number)
            e_super = superclass_encoding(shipped, "teddy")
            assert torch.allclose(K[2], strength * (layer.W_K @ e_super), atol=2e-3)
            assert torch.allclose(V[2], strength * torch.tensor(x.o_v[layer.own]), atol=2e-3)


def test_global_locking_takes_every_key_from_the_superclass_prompt(shipped: BaseModel) -> None:
    x = concept_like(shipped, "small teddy")
    found = condition(
        shipped, "a red <x> next to a car", concepts={"x": ConceptUse(x, 0.5)}, locking="global"
    )
    plain = condition(shipped, "a red small teddy next to a car")
    local = condition(shipped, "a red <x> next to a car", concepts={"x": ConceptUse(x, 0.5)})
    for number in range(len(shipped.layers)):
        K, V = keys_values(shipped, found, number)
        K_plain, _ = keys_values(shipped, plain, number)
        _, V_local = keys_values(shipped, local, number)
        # BOS a red | small, absent from the prompt with the placeholder | teddy next to a car …
        assert torch.equal(K[:3], K_plain[:3]) and torch.equal(K[3:31], K_plain[4:32])
        assert torch.equal(V, V_local)


def test_the_locked_keys_are_made_of_the_concepts_own_encoding_of_its_superclass(
    tiny: Callable[[str], BaseModel],
) -> None:
    """Never of one computed anew: a change of the training prompts must not change a concept."""
    base = tiny("sd1")
    e_super = np.random.default_rng(2).standard_normal(base.encoding_width).astype(np.float32)
    x = replace(concept_like(base, "teddy"), e_super=e_super)
    use = ConceptUse(x, beta=-50.0)  # the gate is open, whatever the similarity is
    targets = {"x": target_of(base, use)}
    e = encode(base, tokens_of(base, [parse("a <x>")], targets), targets).e[0, 2]
    use = replace(use, concept=replace(x, i_star=e.numpy()))
    found = condition(base, "a <x>", concepts={"x": use})
    for number, layer in enumerate(base.layers):
        K, _ = keys_values(base, found, number)
        assert torch.allclose(K[2], layer.W_K @ torch.tensor(e_super), atol=1e-5)


ARTICLES = ("a", "the")
OF_FORMAT_1 = [
    *(f"a photo of {article} teddy" for article in ARTICLES),
    *(f"a good photo of {article} teddy" for article in ARTICLES),
    *(f"a picture of {article} teddy" for article in ARTICLES),
    *(f"{article} teddy" for article in ARTICLES),
    *(f"a photo of {which} teddy" for which in ("one", "my", "a small", "a large")),
    "an image of a teddy",
    "a teddy in a photo",
]


def test_a_concept_of_format_1_takes_the_prompts_that_it_was_trained_with(
    tiny: Callable[[str], BaseModel],
) -> None:
    base = tiny("sd1")
    tokenizer = base.tokenizers[0]
    (word,) = tokenizer("teddy", add_special_tokens=False).input_ids
    rows = [tokenizer(text, padding="max_length", max_length=32).input_ids for text in OF_FORMAT_1]
    e = base.text.encode([rows]).e
    expected = torch.stack([row[ids.index(word)] for row, ids in zip(e, rows, strict=True)]).mean(0)
    target = target_of(base, ConceptUse(replace(concept_like(base, "teddy"), e_super=None), 0.7))
    assert len(OF_FORMAT_1) == 14
    assert torch.allclose(target.e_super, expected, atol=1e-6)
    assert not torch.allclose(superclass_encoding(base, "teddy"), expected, atol=1e-4)


def test_no_training_prompt_says_a_size_that_a_picture_may_contradict() -> None:
    words = {word for template in TEMPLATES for word in template.split()}
    assert "photo" in words
    assert not words & {"small", "large", "big", "little", "tiny", "huge"}


@pytest.mark.parametrize(("words", "reached"), [(26, True), (27, False)])
def test_with_global_locking_a_concept_that_the_written_prompt_does_not_reach_keeps_its_key(
    tiny: Callable[[str], BaseModel], words: int, reached: bool
) -> None:
    """Written out, a superclass of several tokens moves what follows it, here past the end."""
    base = tiny("sd1")
    e_super = np.random.default_rng(2).standard_normal(base.encoding_width).astype(np.float32)
    x = concept_like(base, "small red teddy", "x")
    y = replace(concept_like(base, "car", "y"), e_super=e_super, i_star=x.i_star[::-1].copy())
    uses = {concept.name: ConceptUse(concept, 0.5) for concept in (x, y)}
    found = condition(base, "a " * words + "<x> <y>", concepts=uses, locking="global")
    plain = condition(base, "a " * words + "small red teddy car")
    own = words + 2  # where <y> is: begin, words, <x>
    for number, layer in enumerate(base.layers):
        K, _ = keys_values(base, found, number)
        K_plain, _ = keys_values(base, plain, number)
        written = K_plain[own + 2] if reached else layer.W_K @ torch.tensor(e_super)
        assert torch.equal(K[own - 1], K_plain[own + 1])
        assert torch.allclose(K[own], written, atol=1e-5)


@pytest.mark.parametrize(
    ("prompt", "written"),
    [
        ("a <<x>> on a beach", "a < teddy > on a beach"),
        ("two <x>s at night", "two teddy s at night"),
    ],
)
def test_with_global_locking_text_that_touches_a_placeholder_keeps_its_keys(
    shipped: BaseModel, prompt: str, written: str
) -> None:
    use = {"x": ConceptUse(concept_like(shipped, "teddy"), 0.5)}
    found = condition(shipped, prompt, concepts=use, locking="global")
    plain = condition(shipped, written)
    for number in range(len(shipped.layers)):
        K, _ = keys_values(shipped, found, number)
        K_plain, _ = keys_values(shipped, plain, number)
        assert torch.equal(K, K_plain)


def test_the_gates_of_two_of_a_kind_are_kept_apart(shipped: BaseModel) -> None:
    """As `decompose` does with `apart`, which its own tests hold to be right."""
    x = concept_like(shipped, "teddy", "x")
    near = x.i_star + 0.5 * superclass_encoding(shipped, "dinosaur").numpy()
    y = replace(concept_like(shipped, "teddy", "y", seed=1), i_star=near)
    uses = {name: ConceptUse(concept, 0.7) for name, concept in (("x", x), ("y", y))}
    prompt = "a <x> next to a <y>"
    found = condition(shipped, prompt, concepts=uses)
    targets = {name: target_of(shipped, use) for name, use in uses.items()}
    e = encode(shipped, tokens_of(shipped, [parse(prompt)], targets), targets).e[0]
    i, o = (torch.tensor(np.stack(rows)) for rows in ([x.i_star, y.i_star], [x.o_v, y.o_v]))
    beta, tau = torch.full((2,), 0.7), torch.full((2,), DEFAULT_TAU)

    def values(*, apart: bool, number: int) -> Tensor:
        layer, metric = shipped.layers[number], shipped.covariance.metric
        edit = decompose(e, i, metric=metric, beta=beta, tau=tau, apart=apart)
        return edit.apply(layer.W_V, o[:, layer.own])

    for number in range(len(shipped.layers)):
        _, V = keys_values(shipped, found, number)
        assert torch.allclose(V, values(apart=True, number=number), atol=1e-5)
        assert not torch.allclose(V, values(apart=False, number=number), atol=0.05)


def test_published_gates_are_equation_3_to_the_letter(shipped: BaseModel) -> None:
    x = concept_like(shipped, "teddy", "x")
    near = x.i_star + 0.5 * superclass_encoding(shipped, "dinosaur").numpy()
    y = replace(concept_like(shipped, "teddy", "y", seed=1), i_star=near)
    uses = {name: ConceptUse(concept, 0.7) for name, concept in (("x", x), ("y", y))}
    prompt = "a <x> next to a <y>"
    found = condition(shipped, prompt, concepts=uses, strategy=PUBLISHED)
    targets = {name: target_of(shipped, use) for name, use in uses.items()}
    e = encode(shipped, tokens_of(shipped, [parse(prompt)], targets), targets).e[0].double()
    i, o = (
        torch.tensor(np.stack(rows), dtype=torch.float64)
        for rows in ([x.i_star, y.i_star], [x.o_v, y.o_v])
    )
    started = start(
        shipped,
        ImageRequest(
            prompt=prompt,
            concepts=uses,
            config=GenerateConfig(gates="published", guidance_scale=1, seed=1),
        ),
    )
    assert torch.equal(started[0].packed[-1], found.packed)
    metric = Metric.of(shipped.covariance.C.double())
    beta, tau = (torch.full((2,), value, dtype=torch.float64) for value in (0.7, DEFAULT_TAU))
    edit = decompose(e, i, metric=metric, beta=beta, tau=tau)
    for number, layer in enumerate(shipped.layers):
        _, V = keys_values(shipped, found, number)
        exact = edit.apply(layer.W_V.double(), o[:, layer.own])
        assert torch.allclose(V.double(), exact, atol=1e-4)


@pytest.mark.parametrize(("locking", "beta"), [("local", 0.7), ("global", 0.5)])
def test_a_use_without_a_bias_takes_the_one_of_its_locking(
    shipped: BaseModel, locking: Locking, beta: float
) -> None:
    x = concept_like(shipped, "teddy")
    usual = condition(shipped, "a <x>", concepts={"x": ConceptUse(x)}, locking=locking)
    given = condition(shipped, "a <x>", concepts={"x": ConceptUse(x, beta)}, locking=locking)
    assert torch.equal(usual.packed, given.packed)


def test_a_use_without_a_bias_takes_what_the_concepts_own_curve_recommends() -> None:
    assert JUDGED.curve is not None
    recommended = recommended_strength(JUDGED.curve)
    assert ConceptUse(JUDGED).bias("local") == beta_from_strength(recommended) != 0.7
    assert ConceptUse(JUDGED).bias("global") == 0.5
    assert ConceptUse(JUDGED, 0.6).bias("local") == ConceptUse(JUDGED, 0.6).bias("global") == 0.6


def test_gates_stay_shut_in_the_empty_prompt_of_guidance(shipped: BaseModel) -> None:
    x = concept_like(shipped, "teddy")
    loud = replace(x, o_v=1000 * x.o_v)
    use = {"x": ConceptUse(loud, beta_from_strength(0.88))}
    edited = condition(shipped, "", concepts=use).packed
    plain = condition(shipped, "").packed
    # The gate far from the concept is σ(−β / τ), below 0.01: of 1000, less than 30 remains.
    assert float((edited - plain).abs().max()) < 0.03 * float(np.abs(loud.o_v).max())


def test_the_same_concept_twice_is_one_concept(shipped: BaseModel) -> None:
    use = {"x": ConceptUse(concept_like(shipped, "teddy"), 0.7)}
    assert condition(shipped, "<x> next to <x>", concepts=use).packed.isfinite().all()


def test_two_concepts_with_one_direction_are_a_clear_error(shipped: BaseModel) -> None:
    x, y = (concept_like(shipped, "teddy", name) for name in ("x", "y"))
    with pytest.raises(ConceptsIndistinguishable, match="same direction"):
        condition(shipped, "<x> <y>", concepts={"x": ConceptUse(x, 0.7), "y": ConceptUse(y, 0.7)})


def test_a_placeholder_without_a_concept_is_refused_by_name(shipped: BaseModel) -> None:
    with pytest.raises(PromptError, match="<nobody>"):
        condition(shipped, "a photo of <nobody>")


def test_a_concept_with_vectors_of_another_size_is_refused(shipped: BaseModel) -> None:
    x = concept_like(shipped, "teddy")
    with pytest.raises(ConceptFileError, match="other sizes"):
        target_of(shipped, ConceptUse(replace(x, o_v=x.o_v[:-1]), 0.7))
    with pytest.raises(ConceptFileError, match="other sizes"):
        target_of(shipped, ConceptUse(replace(x, e_super=x.i_star[:-1]), 0.7))


def test_sdxl_reads_the_pooled_embeddings_and_uncropped_sizes_and_others_nothing() -> None:
    pooled = torch.randn(3, 5)
    added = added_conditions(pooled, width=48, height=40, dtype=torch.bfloat16)
    assert torch.equal(added["text_embeds"], pooled.bfloat16())
    assert added["time_ids"].tolist() == [[40, 48, 0, 0, 40, 48]] * 3
    assert {tensor.dtype for tensor in added.values()} == {torch.bfloat16}
    assert added_conditions(None, width=48, height=40, dtype=torch.float32) == {}


def test_under_global_locking_sdxls_pooled_vector_is_of_the_prompt_without_the_concept(
    tiny: Callable[[str], BaseModel],
) -> None:
    base = tiny("sdxl")
    uses = {"rex": ConceptUse(trained_briefly(base))}

    def pooled(prompt: str, **more: Any) -> Tensor:
        found = condition(base, prompt, **more).pooled
        assert found is not None
        return found

    written = pooled("a photo of a robot")
    assert torch.equal(pooled("a photo of a <rex>", concepts=uses, locking="global"), written)
    assert not torch.equal(pooled("a photo of a <rex>", concepts=uses), written)

"""Maps of where each word acted: what they are made of, and that nobody else notices."""

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from perfusion_core.attention import observed
from perfusion_core.base_model import BaseModel
from perfusion_core.conditioning import ConceptUse
from perfusion_core.config import GenerateConfig
from perfusion_core.sampling.attention_maps import (
    MAX_WORDS,
    AttentionMaps,
    WordMap,
    coverage,
    probabilities,
    the_most_telling,
)
from perfusion_core.sampling.sampler import ImageRequest, decode, start, step
from perfusion_core.sampling.trajectories import Trajectory
from perfusion_core.text.words import Word
from tests.unit.perfusion_core.test_conditioning import concept_like

QUICK = GenerateConfig(num_inference_steps=3, guidance_scale=4.0, seed=3)


def finish(base: BaseModel, trajectories: list[Trajectory]) -> list[Image.Image]:
    while active := [trajectory for trajectory in trajectories if not trajectory.finished]:
        step(base, active)
    return [decode(base, trajectory) for trajectory in trajectories]


def maps_of(base: BaseModel, request: ImageRequest) -> tuple[WordMap, ...]:
    (one,) = start(base, replace(request, attention_maps=True))
    finish(base, [one])
    assert one.maps is not None
    return one.maps.means()


def asking(base: BaseModel, prompt: str = "a photo of a <x> at night") -> ImageRequest:
    use = {"x": ConceptUse(concept_like(base, "teddy"), 0.7)} if "<x>" in prompt else {}
    return ImageRequest(prompt=prompt, concepts=use, config=QUICK)


def test_the_pixels_are_the_same_with_and_without_maps(base: BaseModel) -> None:
    other = ImageRequest(prompt="a car", config=replace(QUICK, seed=9, guidance_scale=1.0))

    def pixels(*, with_maps: bool, in_company: bool) -> list[bytes]:
        own = start(base, replace(asking(base), attention_maps=with_maps))
        company = start(base, other) if in_company else []
        return [image.tobytes() for image in finish(base, [*company, *own])]

    for in_company in (False, True):
        with_maps = pixels(with_maps=True, in_company=in_company)
        assert with_maps == pixels(with_maps=False, in_company=in_company)


def test_maps_are_the_same_alone_and_beside_requests_that_want_none(base: BaseModel) -> None:
    alone = maps_of(base, asking(base))
    (own,) = start(base, replace(asking(base), attention_maps=True))
    company = start(base, asking(base, "a car on the beach"))
    finish(base, [*company, own, *start(base, asking(base, "a dog"))])
    assert own.maps is not None and company[0].maps is None
    for mine, other in zip(alone, own.maps.means(), strict=True):
        assert mine.word == other.word
        assert torch.allclose(mine.share, other.share, atol=1e-3)


def test_attention_sums_to_one_over_tokens_at_every_place_of_every_layer(
    base: BaseModel,
) -> None:
    seen: list[Tensor] = []

    def observe(q: Tensor, k: Tensor) -> None:
        seen.extend(probabilities(q[row], k[row]) for row in range(len(q)))

    with observed(observe):
        base.unet(
            torch.randn(2, 4, 8, 8),
            torch.tensor([500, 20]),
            encoder_hidden_states=torch.randn(2, 32, base.packed_width),
        )
    assert len(seen) == 2 * len(base.layers)
    for A in seen:
        assert torch.allclose(A.sum(-1), torch.ones(len(A)), atol=1e-5)


def test_what_is_recorded_is_the_attention_that_the_layer_computes() -> None:
    q, k, v = torch.randn(1, 12, 4), torch.randn(1, 7, 4), torch.randn(1, 7, 4)
    assert torch.allclose(
        probabilities(q, k) @ v[0], scaled_dot_product_attention(q, k, v)[0], atol=1e-5
    )


def test_the_negative_prompts_row_is_not_recorded(base: BaseModel) -> None:
    one_step = replace(asking(base), config=replace(QUICK, num_inference_steps=1))
    plain = maps_of(base, one_step)
    config = replace(one_step.config, negative_prompt="a red car on the beach")
    negative = maps_of(base, replace(one_step, config=config))
    without_guidance = maps_of(base, replace(one_step, config=replace(config, guidance_scale=1.0)))
    for expected, with_negative, alone in zip(plain, negative, without_guidance, strict=True):
        assert torch.allclose(expected.share, with_negative.share, atol=1e-5)
        assert torch.allclose(expected.share, alone.share, atol=1e-5)


def test_the_mean_is_over_layers_and_steps_and_no_share_is_more_than_all(
    base: BaseModel,
) -> None:
    found = maps_of(base, asking(base))
    words = [word_map.word.text for word_map in found]
    assert words == ["a", "photo", "of", "a", "<x>", "at", "night"]
    shares = torch.stack([word_map.share for word_map in found])
    assert shares.shape == (7, 8, 8)
    assert float(shares.min()) > 0 and float(shares.sum(0).max()) <= 1 + 1e-5


def test_a_concept_takes_more_attention_than_its_article(shipped: BaseModel) -> None:
    words = {
        word_map.word.text: float(word_map.share.mean())
        for word_map in maps_of(shipped, asking(shipped))
    }
    assert words["<x>"] > words["a"]


@pytest.mark.parametrize("family", ["sd1", pytest.param("sd2", marks=pytest.mark.slow), "sdxl"])
def test_every_family_and_size_has_maps_on_its_latents_grid(
    tiny: Callable[[str], BaseModel], family: str
) -> None:
    base = tiny(family)
    config = replace(QUICK, num_inference_steps=1, width=48, height=40)
    found = maps_of(base, ImageRequest(prompt="a red car", config=config))
    expected = (40 // base.vae_factor, 48 // base.vae_factor)
    assert [tuple(word_map.share.shape) for word_map in found] == [expected] * 3


def test_a_step_that_fails_in_the_middle_leaves_nothing_in_the_mean() -> None:
    def maps() -> AttentionMaps:
        words = [Word("a", None, (1,)), Word("cat", None, (2, 3))]
        return AttentionMaps(words, token_count=5, grid=(4, 6), device=torch.device("cpu"))

    q, k = torch.randn(2, 6, 3), torch.randn(2, 5, 3)  # a layer of half the size: 2 x 3 places
    once, retried = maps(), maps()
    retried.see(torch.randn(2, 24, 3), k)
    for attention_maps in (once, retried):
        attention_maps.begin_step()
        attention_maps.see(q, k)
        attention_maps.keep_step()
    for mean, other in zip(once.means(), retried.means(), strict=True):
        assert torch.equal(mean.share, other.share)


def test_threads_that_share_a_unet_do_not_see_each_other(base: BaseModel) -> None:
    seen: list[int] = []
    trajectories = start(base, asking(base, "a dog"))
    other = threading.Thread(target=step, args=(base, trajectories))
    with observed(lambda q, k: seen.append(len(q))):
        other.start()
        other.join()
    assert trajectories[0].step_index == 1
    assert seen == []


def test_coverage_is_the_share_of_places_above_the_threshold() -> None:
    share = torch.tensor([[0.1, 0.3], [0.5, 0.2]])
    assert coverage(share, threshold=0.2) == 0.5  # at the threshold is not above it
    assert coverage(share, threshold=0.05) == 1.0
    assert coverage(torch.zeros(3, 3)) == 0.0
    assert coverage(torch.ones(3, 3)) == 1.0


@pytest.mark.parametrize("begin", [0.0, 0.1, 0.9, 1.0])
def test_a_begin_token_that_takes_most_attention_does_not_hide_what_words_cover(
    begin: float,
) -> None:
    """Half of the places attend to the cat, the other half to the article."""
    words = [Word("a", None, (1,)), Word("cat", None, (2,))]
    maps = AttentionMaps(words, token_count=3, grid=(2, 2), device=torch.device("cpu"))
    rest = 1 - begin
    at_article = torch.tensor([begin, 0.9 * rest, 0.1 * rest])
    at_cat = torch.tensor([begin, 0.1 * rest, 0.9 * rest])
    wanted = torch.stack([at_article, at_article, at_cat, at_cat])  # (P, N)
    # Queries that choose a row of logits give exactly these probabilities.
    q = torch.eye(4)[None] * 2.0  # sqrt of the width
    k = wanted.clamp(min=1e-30).log().T[None]
    assert torch.allclose(probabilities(q, k), wanted, atol=1e-6)
    maps.see(q, k)
    maps.keep_step()
    article, cat = maps.means()
    assert cat.coverage == article.coverage == (0.5 if begin < 1 else 0.0)
    assert float(cat.share.max()) == pytest.approx(0.9 * rest, abs=1e-6)  # maps stay as they are


def test_a_long_prompt_keeps_its_concepts_and_its_first_other_words() -> None:
    words = [Word(f"w{n}", None, (n,)) for n in range(60)]
    words[50] = Word("<x>", "x", (50,))
    kept = the_most_telling(words)
    assert len(kept) == MAX_WORDS
    assert kept == (*words[: MAX_WORDS - 1], words[50])


def test_a_prompt_without_words_has_no_maps(base: BaseModel) -> None:
    config = GenerateConfig(num_inference_steps=1, seed=1)
    trajectory = start(base, ImageRequest(prompt="", config=config, attention_maps=True))[0]
    step(base, [trajectory])
    assert trajectory.maps is not None and trajectory.maps.means() == ()

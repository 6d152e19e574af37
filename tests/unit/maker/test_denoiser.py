from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from models.maker.networks.denoiser import Denoiser, TwoProductAttention, build_denoiser
from models.maker.networks.precision import cpu_has_bfloat16
from models.maker.networks.teacher import Alignment, Teacher
from models.maker.networks.tokenizer import Encoder, make_tokenizer
from models.maker.recipe import recipe_of, rescheduled
from models.maker.stages.unet import learning_rate, weighted_mean
from models.maker.stages.vae import CROP, crop
from models.maker.stream import draw_pictures

RECIPE = recipe_of("dry-run", Path("unused"), "cpu", None)


@pytest.fixture
def model() -> Denoiser:
    torch.manual_seed(0)
    return build_denoiser(RECIPE.unet, None)


def _ids(*prompts: str) -> Tensor:
    return torch.from_numpy(Encoder(make_tokenizer()).encode(list(prompts))).long()


def _noisy(count: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    return torch.randn(count, 8, 16, 16, generator=random), torch.full((count,), 500)


class _Listener:
    """A U-Net that keeps the encodings that it gets."""

    def __call__(self, noisy: Tensor, timesteps: Tensor, told: Tensor) -> SimpleNamespace:
        self.told = told
        return SimpleNamespace(sample=noisy)


def test_forgotten_padding_is_that_of_the_empty_prompt(model: Denoiser) -> None:
    listener = _Listener()
    deaf = Denoiser(cast(Any, listener), model.text)
    ids = _ids("a cat", "a cat", "")
    forgotten = torch.tensor([[True], [False], [False]])
    deaf.predict(*_noisy(3), ids, padding_forgotten=forgotten)
    first, second, empty = listener.told
    end = 3  # begin, a, cat, end
    assert torch.allclose(first[end + 1 :], empty[end + 1 :], atol=1e-6)
    assert torch.equal(first[: end + 1], second[: end + 1])
    assert not torch.allclose(second[end + 1 :], empty[end + 1 :], atol=1e-2)


def test_the_empty_prompt_is_what_the_tokenizer_makes_of_no_words(model: Denoiser) -> None:
    assert torch.equal(model.empty_ids(), _ids(""))


def test_attention_by_two_products_equals_diffusers_own(model: Denoiser) -> None:
    ids = _ids("a cat on the beach", "a dog")
    fused = model.predict(*_noisy(2), ids)
    model.unet.set_attn_processor(TwoProductAttention())
    assert torch.allclose(model.predict(*_noisy(2), ids), fused, atol=1e-5)


def test_a_fresh_projection_learns_before_the_middle_is_taught(model: Denoiser) -> None:
    alignment = Alignment(model.unet)
    features = torch.randn(2, 16, 320, generator=torch.Generator().manual_seed(2))
    taught = []
    for teach_middle in (False, True):
        model.predict(*_noisy(2), _ids("a cat", "a dog"))
        alignment(features, teach_middle=teach_middle).backward()
        assert alignment.project[0].weight.grad is not None
        taught.append(model.unet.conv_in.weight.grad is not None)
    assert taught == [False, True]


def test_an_alignment_is_perfect_where_the_projection_gives_the_features(model: Denoiser) -> None:
    alignment = Alignment(model.unet)
    model.predict(*_noisy(1), _ids("a cat"))
    made = torch.empty(0)

    def keep(_module: object, _given: object, projected: Tensor) -> None:
        nonlocal made
        made = projected.detach()

    alignment.project.register_forward_hook(keep)
    alignment(torch.ones(1, 16, 320), teach_middle=True)
    assert float(alignment(3 * made, teach_middle=True).detach()) == pytest.approx(1.0, abs=1e-5)
    assert float(alignment(-made, teach_middle=True).detach()) == pytest.approx(-1.0, abs=1e-5)


def test_the_teachers_features_are_standardised_and_tell_scenes_apart(art_file: Path) -> None:
    scenes = draw_pictures(art_file, [4], 16, 1.0).pictures
    features = Teacher(scenes, "cpu")(scenes).float()
    assert features.shape == (16, 16, 320)
    assert features.mean((0, 1)).abs().max() < 0.02
    assert torch.allclose(features.std((0, 1)), torch.ones(320), atol=0.05)
    assert (features[0] - features[1]).abs().mean() > 0.3


def test_an_error_on_an_object_counts_four_times(art_file: Path) -> None:
    regions = torch.zeros(1, 16, 16)
    regions[:, :8] = 1  # half of the scene
    inside, outside = torch.zeros(2, 1, 8, 16, 16)
    inside[:, :, :8], outside[:, :, 8:] = 1, 1
    on_object = weighted_mean(inside, regions, 4.0)
    elsewhere = weighted_mean(outside, regions, 4.0)
    assert float(on_object / elsewhere) == pytest.approx(4.0)
    assert float(weighted_mean(torch.ones(1, 8, 16, 16), regions, 4.0)) == pytest.approx(1.0)


def test_the_rate_rises_stays_and_falls_to_its_end() -> None:
    own = replace(RECIPE.unet, samples=1000, decay_from=600, warm_up_steps=10)
    rates = [learning_rate(own, seen, 16) / own.rate for seen in range(0, 1001, 16)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:38] == [1.0] * 28
    assert sorted(rates[38:], reverse=True) == rates[38:]
    assert learning_rate(own, 1000, 16) == pytest.approx(own.final_rate)


def test_a_schedule_whose_decay_begins_after_its_end_is_refused() -> None:
    with pytest.raises(ValueError, match="after the end"):
        rescheduled(RECIPE, processes=None, samples=50, decay_from=60)


def test_another_schedule_leaves_all_else_as_it_was() -> None:
    changed = rescheduled(RECIPE, processes=2, samples=500, decay_from=400)
    assert changed.processes == 2
    assert changed.unet == replace(RECIPE.unet, samples=500, decay_from=400)
    assert rescheduled(RECIPE, processes=None, samples=None, decay_from=None) == RECIPE


@pytest.mark.parametrize(
    ("flags", "quick"),
    [
        ("fpu avx512f amx_bf16 amx_tile", True),
        ("fpu avx512f avx512_bf16", True),
        ("fpu avx2 avx512f avx512_bf16_imitated", False),
    ],
)
def test_a_cpu_computes_in_bfloat16_only_with_instructions_for_it(flags: str, quick: bool) -> None:
    assert cpu_has_bfloat16(f"model name : one\nflags\t\t: {flags}\nbugs : none\n") is quick
    assert not cpu_has_bfloat16("")


def test_a_crop_is_a_part_of_every_picture_from_one_place() -> None:
    rows = torch.arange(128.0)[:, None].expand(2, 3, 128, 128)
    columns = torch.arange(128.0).expand(2, 3, 128, 128)
    tops = set()
    for seed in range(40):
        top = crop(rows, seed)
        left = crop(columns, seed)
        assert top.shape == (2, 3, CROP, CROP)
        assert torch.equal(top[0, 0, :, 0] - top[0, 0, 0, 0], torch.arange(float(CROP)))
        assert torch.equal(top[0], top[1]) and torch.equal(left[0], left[1])
        tops.add(float(top[0, 0, 0, 0]))
    assert min(tops) == 0 and max(tops) == 128 - CROP

"""What cards of 8 to 24 GB do with Stable Diffusion's real shapes, reckoned from free memory."""

from functools import cache

import pytest
import torch

from benchmarks import shapes
from benchmarks.shapes import Shape
from perfusion_core.devices.needs import Needs, needs_of
from perfusion_core.devices.plans import (
    SMALLEST_TILE,
    TrainingPlan,
    choose_attention,
    choose_offload,
    images_at_once,
    plan_training,
    tile_side,
)

GB = 10**9
SD, SDXL = 512**2, 1024**2


def free_on(card: int) -> int:
    """What a card has left next to CUDA's context and a desktop."""
    return card * 2**30 - 700 * 2**20


@cache
def needs(shape: Shape, *, fused: bool = True) -> Needs:
    with torch.device("meta"):
        pipeline = shapes.pipeline(shape)
    encoders = [pipeline.text_encoder]
    if shape == "sdxl":
        encoders.append(pipeline.text_encoder_2)
    return needs_of(pipeline.unet, pipeline.vae, encoders, dtype=torch.bfloat16, fused=fused)


@pytest.mark.parametrize(("card", "expected"), [(8, "model"), (12, "text"), (16, "none")])
def test_sdxl_offloads_the_more_the_smaller_the_card(card: int, expected: str) -> None:
    assert choose_offload(needs("sdxl"), pixels=SDXL, free=free_on(card)) == expected


@pytest.mark.parametrize("card", [8, 12, 16, 24])
def test_stable_diffusion_1_5_offloads_nothing_from_8_gb_on(card: int) -> None:
    assert choose_offload(needs("sd15"), pixels=SD, free=free_on(card)) == "none"


def test_the_chosen_parts_fit_beside_one_image_and_a_training_step() -> None:
    for shape, pixels in (("sd15", SD), ("sdxl", SDXL)):
        of: Needs = needs(shape)  # type: ignore[arg-type]  # a literal of the tuple above
        for card in (8, 12, 16, 24):
            free = free_on(card)
            held = {
                "none": of.unet + of.text + of.vae,
                "text": of.unet + of.vae,
                "model": of.unet,
            }[choose_offload(of, pixels=pixels, free=free)]
            assert held + of.step(pixels) <= free
            assert held + of.recomputing(pixels) <= free
            assert max(held, of.text + of.text_graph) <= free


def test_a_card_that_tells_nothing_of_its_memory_gets_no_limits() -> None:
    of = needs("sdxl")
    assert choose_offload(of, pixels=SDXL, free=None) == "none"
    assert images_at_once(of, pixels=SDXL, free=None) == 1
    assert plan_training(of, pixels=SDXL, batch_size=4, free=None) == TrainingPlan()


def test_an_image_of_1024_px_is_decoded_alone_and_in_tiles_where_it_does_not_fit() -> None:
    of = needs("sdxl")
    assert images_at_once(of, pixels=SDXL, free=16 * GB) == 1
    assert images_at_once(of, pixels=SDXL, free=3 * GB) == 0
    side = tile_side(of.decoding_per_pixel, free=3 * GB)
    assert SMALLEST_TILE <= side < 1024
    assert side % 64 == 0
    assert of.decoding(side**2) < 3 * GB


def test_small_images_are_decoded_together() -> None:
    assert images_at_once(needs("shipped"), pixels=128**2, free=2 * GB) >= 4


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (40 * GB, TrainingPlan(parts=1)),
        (16 * GB, TrainingPlan(parts=2)),
        (8 * GB, TrainingPlan(parts=4)),
        (3 * GB, TrainingPlan(parts=2, recomputes=True)),
        (GB // 2, TrainingPlan(parts=4, recomputes=True)),
    ],
)
def test_a_batch_of_4_is_split_as_free_memory_demands(free: int, expected: TrainingPlan) -> None:
    assert plan_training(needs("sdxl"), pixels=SDXL, batch_size=4, free=free) == expected


def test_the_passes_of_a_plan_fit_into_the_free_memory() -> None:
    of = needs("sdxl")
    for free in range(2 * GB, 60 * GB, GB):
        plan = plan_training(of, pixels=SDXL, batch_size=16, free=free, prompts=2)
        examples = -(-16 // plan.parts)
        each = of.recomputing(SDXL) if plan.recomputes else of.training(SDXL)
        assert examples * each + 2 * of.text_graph <= free or examples == 1


def test_attention_without_a_fused_kernel_is_sliced_where_its_scores_do_not_fit() -> None:
    of = needs("sd15", fused=False)
    assert choose_attention(of, pixels=SD, free=16 * GB) == "sdpa"
    assert choose_attention(of, pixels=4 * SD, free=8 * GB) == "sliced"

"""Sampling: seeds, schedulers, and pictures that do not depend on their company."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image

from perfusion_core.base_model import BaseModel
from perfusion_core.conditioning import ConceptUse
from perfusion_core.config import GenerateConfig, SchedulerName
from perfusion_core.sampling.sampler import ImageRequest, decode, generate, start, step
from perfusion_core.sampling.trajectories import Batch, Trajectory
from tests.unit.perfusion_core.test_conditioning import concept_like

QUICK = GenerateConfig(num_inference_steps=4, guidance_scale=4.0, seed=3)


def latent_shape(base: BaseModel) -> tuple[int, int, int]:
    side = base.default_resolution // base.vae_factor
    return (int(base.unet.config.in_channels), side, side)


def grey_levels_apart(one: Image.Image, two: Image.Image) -> int:
    return int(np.abs(np.asarray(one, np.int16) - np.asarray(two, np.int16)).max())


@pytest.mark.parametrize("scheduler", get_args(SchedulerName))
def test_every_scheduler_draws_and_repeats_itself(base: BaseModel, scheduler: str) -> None:
    config = GenerateConfig(**{**vars(QUICK), "scheduler": scheduler})
    one, two = (generate(base, "a photo of a cat", config=config)[0] for _ in range(2))
    assert one.tobytes() == two.tobytes()
    assert np.asarray(one).std() > 5  # not a flat field


def test_image_k_is_drawn_from_seed_plus_k(base: BaseModel) -> None:
    together = generate(base, "a dog", config=replace(QUICK, num_images=3))
    alone = generate(base, "a dog", config=replace(QUICK, seed=5))[0]
    assert grey_levels_apart(together[2], alone) <= 1
    assert grey_levels_apart(together[0], together[1]) > 10


def test_a_picture_is_the_same_alone_and_beside_other_requests(base: BaseModel) -> None:
    use = {"x": ConceptUse(concept_like(base, "teddy"), 0.7)}
    requests = [
        ImageRequest(prompt="a photo of <x>", concepts=use, config=QUICK),
        ImageRequest(prompt="a car", config=replace(QUICK, guidance_scale=1.0, scheduler="euler")),
        ImageRequest(prompt="a <x> on the beach", concepts=use,
                     config=replace(QUICK, num_inference_steps=6, seed=8, locking="global")),
    ]  # fmt: skip

    def finish(trajectories: list[Trajectory]) -> list[Image.Image]:
        while active := [t for t in trajectories if not t.finished]:
            step(base, active)
        return [decode(base, t) for t in trajectories]

    alone = [finish(start(base, request))[0] for request in requests]
    company = finish([t for request in requests for t in start(base, request)])
    assert max(map(grey_levels_apart, alone, company)) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("family", ["shipped", "sd1", "sdxl"])
def test_bits_depend_on_the_size_of_the_batch_and_on_nothing_else_of_it(
    family: str, shipped: BaseModel, tiny: Callable[[str], BaseModel]
) -> None:
    base = shipped if family == "shipped" else tiny(family)

    def begun(prompt: str, **options: Any) -> Trajectory:
        config = replace(QUICK, **{"num_inference_steps": 2, **options})
        return start(base, ImageRequest(prompt=prompt, config=config))[0]

    def latents(*, before: int, after: int, rows: int) -> torch.Tensor:
        """Of one image, in one place of a batch that is padded to so many rows."""
        mine = begun("a photo of a cat")
        others = [begun(f"a dog {k}", seed=k, guidance_scale=k + 1.0) for k in range(3)]
        batch = Batch([*others[:before], mine, *others[before : before + after]], rows=rows)
        assert len(batch.packed) == rows
        while not mine.finished:
            step(base, batch)
        return mine.latents

    alone = latents(before=0, after=0, rows=8)
    for before, after in ((0, 3), (1, 1), (3, 0)):
        assert torch.equal(latents(before=before, after=after, rows=8), alone)


def test_without_guidance_no_row_is_spent_on_the_negative_prompt(base: BaseModel) -> None:
    def rows(guidance_scale: float) -> int:
        config = replace(QUICK, guidance_scale=guidance_scale)
        return start(base, ImageRequest(prompt="a cat", config=config))[0].rows

    assert (rows(0.0), rows(1.0), rows(1.5)) == (1, 1, 2)


def test_a_negative_prompt_steers(base: BaseModel) -> None:
    plain = generate(base, "a car", config=QUICK)[0]
    steered = generate(base, "a car", config=replace(QUICK, negative_prompt="red"))[0]
    assert grey_levels_apart(plain, steered) > 3


def test_other_sizes_are_drawn(base: BaseModel) -> None:
    image = generate(base, "a cat", config=replace(QUICK, width=96, height=72))[0]
    assert image.size == (96, 72)


def test_a_seed_means_the_same_noise_everywhere(base: BaseModel) -> None:
    first = start(base, ImageRequest(prompt="a cat", config=QUICK))[0]
    noise = torch.randn((1, *latent_shape(base)), generator=torch.Generator().manual_seed(3))
    assert torch.equal(first.latents, noise * first.scheduler.init_noise_sigma)


def test_a_seed_is_drawn_where_none_is_given(base: BaseModel) -> None:
    request = ImageRequest(prompt="a cat", config=replace(QUICK, seed=None))
    assert start(base, request)[0].seed != start(base, request)[0].seed

"""What the sampler takes an unfinished image for."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from perfusion_core.base_model import BaseModel
from perfusion_core.config import GenerateConfig, SchedulerName
from perfusion_core.sampling.estimates import (
    MAX_ESTIMATE_BYTES,
    MAX_ROUGH_BYTES,
    encode_estimate,
    estimates,
)
from perfusion_core.sampling.linear_decoder import LinearDecoder
from perfusion_core.sampling.sampler import ImageRequest, decode, start, step
from perfusion_core.sampling.trajectories import Trajectory

QUICK = GenerateConfig(num_inference_steps=4, guidance_scale=4.0, seed=3, num_images=1)
SCHEDULERS = sorted(set(get_args(SchedulerName)) - {"tcd"})


def estimate(base: BaseModel, trajectory: Trajectory) -> Image.Image | None:
    drawn = estimates(base, trajectory, [], decoder=LinearDecoder())
    return None if drawn is None else drawn[0]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_last_estimate_is_the_image_and_estimating_changes_nothing(
    base: BaseModel, scheduler: SchedulerName
) -> None:
    request = ImageRequest(prompt="a dog", config=replace(QUICK, scheduler=scheduler))
    (watched,), (alone,) = start(base, request), start(base, request)
    assert estimate(base, watched) is None
    apart = []
    while not alone.finished:
        step(base, [alone])
        step(base, [watched])
        seen = estimate(base, watched)
        assert seen is not None
        final = decode(base, watched)
        assert seen.size == final.size
        apart.append(np.abs(np.asarray(seen, float) - np.asarray(final, float)).mean())
    assert torch.equal(watched.latents, alone.latents)
    # UniPC's and the ancestral schedulers' last step may keep a little noise.
    assert apart[-1] < 6
    assert apart[0] > apart[-1]


def test_an_estimate_of_a_large_image_is_small(base: BaseModel) -> None:
    config = replace(QUICK, width=272, height=136, num_inference_steps=1)
    (trajectory,) = start(base, ImageRequest(prompt="a dog", config=config))
    step(base, [trajectory])
    seen = estimate(base, trajectory)
    assert seen is not None and seen.size == (136, 68)


def test_a_scheduler_that_tells_no_estimate_gives_none(base: BaseModel) -> None:
    config = replace(QUICK, scheduler="tcd")
    (trajectory,) = start(base, ImageRequest(prompt="a dog", config=config))
    step(base, [trajectory])
    assert estimate(base, trajectory) is None


def test_others_are_drawn_by_what_the_vae_made_of_one(base: BaseModel) -> None:
    request = ImageRequest(prompt="a dog", config=replace(QUICK, num_images=3))
    first, second, broken = start(base, request)
    step(base, [first, broken])
    decoder = LinearDecoder()
    assert estimates(base, second, [first], decoder=decoder) is None  # before its first step
    before = first.latents.clone()
    drawn = estimates(base, first, [second, first], decoder=decoder)
    assert drawn is not None and drawn[1][0] is None
    assert drawn[1][1] is not None and drawn[1][1].size == drawn[0].size
    assert torch.equal(first.latents, before)
    assert broken.predicted is not None
    broken.predicted = broken.predicted * float("nan")
    drawn = estimates(base, first, [broken], decoder=decoder)
    assert drawn is not None and drawn[1] == [None]
    assert estimates(base, broken, [first], decoder=decoder) is None


def test_even_noise_fits_into_the_bytes_of_an_estimate() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    data = encode_estimate(Image.fromarray(noise))
    assert data[:2] == b"\xff\xd8" and len(data) <= MAX_ESTIMATE_BYTES


def test_the_previews_of_sixteen_images_and_the_large_one_have_less_than_60_kibibytes() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    small = encode_estimate(Image.fromarray(noise), max_bytes=MAX_ROUGH_BYTES)
    assert len(small) <= MAX_ROUGH_BYTES
    urls = [MAX_ESTIMATE_BYTES, *[MAX_ROUGH_BYTES] * 16]
    assert sum(len("data:image/jpeg;base64,") + 4 * -(-size // 3) for size in urls) < 60 * 1024

"""What the sampler takes an unfinished image for."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from perfusion_core.base_model import BaseModel
from perfusion_core.config import GenerateConfig, SchedulerName
from perfusion_core.sampling.estimates import MAX_ESTIMATE_BYTES, encode_estimate, estimate
from perfusion_core.sampling.sampler import ImageRequest, decode, start, step

QUICK = GenerateConfig(num_inference_steps=4, guidance_scale=4.0, seed=3, num_images=1)
SCHEDULERS = sorted(set(get_args(SchedulerName)) - {"tcd"})


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


def test_even_noise_fits_into_the_bytes_of_an_estimate() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    data = encode_estimate(Image.fromarray(noise))
    assert data[:2] == b"\xff\xd8" and len(data) <= MAX_ESTIMATE_BYTES
